// Command go-exec is a minimal native key provider for one local key: the baseline that
// bench/startup compares ocicrypt-kms with.
//
// It does the same job for the same messages and the same keystore as `ocicrypt-kms` does
// for local://NAME (one exchange on stdin and stdout, a JWE with A256KW and A256GCM in the
// packet), with Go's standard library and nothing between the message and the key: no
// sandbox, no policy, no audit log. Not for use with real images.
//
//	go-exec --keystore DIR < message.json
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// provider is the name under key-providers in ocicrypt.json, and so the name of its parameters.
const provider = "kmscrypt"

// wrapType marks a packet whose wrapped_key is a JWE compact serialisation.
const wrapType = "JWE"

// message is the exec protocol's input, named as ocicrypt's Go library names it.
// encoding/json reads a []byte from base64 as well as from an array of numbers.
type message struct {
	Op         string `json:"op"`
	WrapParams struct {
		Ec struct {
			Parameters map[string][][]byte `json:"Parameters"`
		} `json:"ec"`
		OptsData []byte `json:"optsdata"`
	} `json:"keywrapparams"`
	UnwrapParams struct {
		Dc struct {
			Parameters map[string][][]byte `json:"Parameters"`
		} `json:"dc"`
		Annotation []byte `json:"annotation"`
	} `json:"keyunwrapparams"`
}

type wrapResults struct {
	Annotation []byte `json:"annotation"`
}

type unwrapResults struct {
	OptsData []byte `json:"optsdata"`
}

// answer holds the results of the operation that was asked for and leaves the other's out.
type answer struct {
	Wrap   *wrapResults   `json:"keywrapresults,omitempty"`
	Unwrap *unwrapResults `json:"keyunwrapresults,omitempty"`
}

// packet is one wrapped copy of the opts data and how to unwrap it.
type packet struct {
	KeyURL     string `json:"key_url"`
	WrappedKey []byte `json:"wrapped_key"`
	WrapType   string `json:"wrap_type"`
}

func main() {
	keystore := flag.String("keystore", "", "directory of JWK sets, NAME.jwks")
	flag.Parse()
	if err := run(*keystore, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "go-exec:", err)
		os.Exit(1)
	}
}

// run answers one message.
func run(keystore string, in io.Reader, out io.Writer) error {
	input, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var msg message
	if err := json.Unmarshal(input, &msg); err != nil {
		return fmt.Errorf("the message is malformed: %w", err)
	}

	var ans answer
	switch msg.Op {
	case "keywrap":
		uri, err := onlyValue(msg.WrapParams.Ec.Parameters)
		if err != nil {
			return err
		}
		annotation, err := wrap(keystore, uri, msg.WrapParams.OptsData)
		if err != nil {
			return fmt.Errorf("wrap with %s: %w", uri, err)
		}
		ans.Wrap = &wrapResults{annotation}
	case "keyunwrap":
		optsData, err := unwrap(keystore, msg.UnwrapParams.Dc.Parameters[provider], msg.UnwrapParams.Annotation)
		if err != nil {
			return fmt.Errorf("unwrap: %w", err)
		}
		ans.Unwrap = &unwrapResults{optsData}
	default:
		return fmt.Errorf("unknown operation %q", msg.Op)
	}

	output, err := json.Marshal(ans)
	if err != nil {
		return err
	}
	_, err = out.Write(output)
	return err
}

// onlyValue returns the one key URI given for this provider.
func onlyValue(parameters map[string][][]byte) (string, error) {
	values := parameters[provider]
	if len(values) != 1 {
		return "", fmt.Errorf("want one %s parameter, got %d", provider, len(values))
	}
	return string(values[0]), nil
}

// wrap makes the annotation: a packet with optsData encrypted to the key that uri names.
func wrap(keystore, uri string, optsData []byte) ([]byte, error) {
	keys, err := loadKeys(keystore, uri)
	if err != nil {
		return nil, err
	}
	compact, err := encryptJWE(keys[0], optsData)
	if err != nil {
		return nil, err
	}
	return json.Marshal(packet{KeyURL: uri, WrappedKey: []byte(compact), WrapType: wrapType})
}

// unwrap opens the annotation's packet if it is for one of the key URIs named; no name means any.
func unwrap(keystore string, named [][]byte, annotation []byte) ([]byte, error) {
	var p packet
	if err := json.Unmarshal(annotation, &p); err != nil {
		return nil, fmt.Errorf("the annotation is malformed: %w", err)
	}
	if p.WrapType != wrapType {
		return nil, fmt.Errorf("unknown wrap_type %q", p.WrapType)
	}
	if !matches(p.KeyURL, named) {
		return nil, fmt.Errorf("the packet is for %s, which was not asked for", p.KeyURL)
	}
	keys, err := loadKeys(keystore, p.KeyURL)
	if err != nil {
		return nil, err
	}
	optsData, err := decryptJWE(keys, string(p.WrappedKey))
	if err != nil {
		return nil, err
	}
	var content struct {
		SymKey []byte `json:"symkey"`
	}
	if err := json.Unmarshal(optsData, &content); err != nil || len(content.SymKey) == 0 {
		return nil, errors.New("what was unwrapped is not opts data")
	}
	return optsData, nil
}

func matches(uri string, named [][]byte) bool {
	for _, name := range named {
		if strings.TrimSpace(string(name)) == uri {
			return true
		}
	}
	return len(named) == 0
}
