// Command go-grpc answers messages over gRPC: the baseline that bench/server compares
// `ocicrypt-kms serve` with.
//
//	go-grpc --keystore DIR --listen unix:///PATH|tcp://HOST:PORT [--tls-cert FILE --tls-key FILE --client-ca FILE]
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"

	pb "github.com/containers/ocicrypt/utils/keyprovider"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"ocicrypt-kms/bench/go/provider"
)

func main() {
	keystore := flag.String("keystore", "", "directory of JWK sets, NAME.jwks")
	listen := flag.String("listen", "", "unix:///PATH or tcp://HOST:PORT")
	cert := flag.String("tls-cert", "", "the server's certificate; with it, clients need one of --client-ca")
	key := flag.String("tls-key", "", "the certificate's private key")
	clientCA := flag.String("client-ca", "", "who signs the clients' certificates")
	flag.Parse()
	if err := run(*keystore, *listen, *cert, *key, *clientCA); err != nil {
		fmt.Fprintln(os.Stderr, "go-grpc:", err)
		os.Exit(1)
	}
}

func run(keystore, listen, cert, key, clientCA string) error {
	var options []grpc.ServerOption
	if cert != "" {
		config, err := mutualTLS(cert, key, clientCA)
		if err != nil {
			return err
		}
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	network, address, _ := strings.Cut(listen, "://")
	listener, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	server := grpc.NewServer(options...)
	pb.RegisterKeyProviderServiceServer(server, service{provider: provider.New(keystore)})
	return server.Serve(listener)
}

func mutualTLS(cert, key, clientCA string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(clientCA)
	if err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", clientCA)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}, nil
}

// service is the provider by way of gRPC. A message says itself which operation it is.
type service struct {
	pb.UnimplementedKeyProviderServiceServer
	provider *provider.Provider
}

func (s service) WrapKey(_ context.Context, in *pb.KeyProviderKeyWrapProtocolInput) (*pb.KeyProviderKeyWrapProtocolOutput, error) {
	return s.answer(in)
}

func (s service) UnWrapKey(_ context.Context, in *pb.KeyProviderKeyWrapProtocolInput) (*pb.KeyProviderKeyWrapProtocolOutput, error) {
	return s.answer(in)
}

func (s service) answer(in *pb.KeyProviderKeyWrapProtocolInput) (*pb.KeyProviderKeyWrapProtocolOutput, error) {
	answer, err := s.provider.Answer(in.KeyProviderKeyWrapProtocolInput)
	if err != nil {
		return nil, err
	}
	return &pb.KeyProviderKeyWrapProtocolOutput{KeyProviderKeyWrapProtocolOutput: answer}, nil
}
