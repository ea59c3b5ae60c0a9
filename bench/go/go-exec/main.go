// Command go-exec answers one message on standard input: the baseline that bench/startup
// compares ocicrypt-kms with.
//
//	go-exec --keystore DIR < message.json
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"ocicrypt-kms/bench/go/provider"
)

func main() {
	keystore := flag.String("keystore", "", "directory of JWK sets, NAME.jwks")
	flag.Parse()
	if err := run(*keystore); err != nil {
		fmt.Fprintln(os.Stderr, "go-exec:", err)
		os.Exit(1)
	}
}

func run(keystore string) error {
	message, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	answer, err := provider.New(keystore).Answer(message)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(answer)
	return err
}
