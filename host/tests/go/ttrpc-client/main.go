// Command ttrpc-client makes one call of the key provider service with containerd's own ttrpc.
//
//	ttrpc-client SOCKET WrapKey|UnWrapKey    the message on standard input, the answer on standard output
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/containers/ocicrypt/utils/keyprovider"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ttrpc-client:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 2 {
		return fmt.Errorf("usage: ttrpc-client SOCKET WrapKey|UnWrapKey")
	}
	message, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	connection, err := net.Dial("unix", arguments[0])
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(connection)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	input := &keyprovider.KeyProviderKeyWrapProtocolInput{KeyProviderKeyWrapProtocolInput: message}
	var output keyprovider.KeyProviderKeyWrapProtocolOutput
	if err := client.Call(ctx, "keyprovider.KeyProviderService", arguments[1], input, &output); err != nil {
		return err
	}
	_, err = os.Stdout.Write(output.KeyProviderKeyWrapProtocolOutput)
	return err
}
