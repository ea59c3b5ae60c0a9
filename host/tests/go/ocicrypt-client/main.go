// Command ocicrypt-client is a client of key providers on ocicrypt's own Go library: what
// skopeo, buildah, CRI-O and containerd do with a layer, without them.
//
//	ocicrypt-client wrap KEY...                 < layer      > wrapped.json
//	ocicrypt-client unwrap [KEY...]             < wrapped.json > layer
//	ocicrypt-client loop [--parallel P] N KEY   > report.json
//
// KEY is what skopeo takes: provider:NAME:KEY_URI, or provider:NAME for no key in particular.
// OCICRYPT_KEYPROVIDER_CONFIG names the ocicrypt.json. It fails with the library's own error,
// which holds the provider's.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	// Also reads OCICRYPT_KEYPROVIDER_CONFIG, when the program starts.
	"github.com/containers/ocicrypt/helpers"
)

var errUsage = errors.New("usage: ocicrypt-client wrap KEY... | unwrap [KEY...] | loop [--parallel P] N KEY")

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "ocicrypt-client:", err)
		os.Exit(1)
	}
}

func run(arguments []string, in io.Reader, out io.Writer) error {
	if len(arguments) == 0 {
		return errUsage
	}
	command, arguments := arguments[0], arguments[1:]
	switch command {
	case "wrap":
		recipients, err := helpers.CreateCryptoConfig(arguments, nil)
		if err != nil {
			return err
		}
		return wrap(recipients.EncryptConfig, in, out)
	case "unwrap":
		keys, err := helpers.CreateDecryptCryptoConfig(arguments, nil)
		if err != nil {
			return err
		}
		return unwrap(keys.DecryptConfig, in, out)
	case "loop":
		return loop(arguments, out)
	default:
		return errUsage
	}
}
