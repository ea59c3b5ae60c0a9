// Package provider is a minimal native key provider for local keys: what the baselines of
// bench/startup and bench/server have in common.
//
// It does the same job for the same messages and the same keystore as ocicrypt-kms does for
// local://NAME (one message in, one answer out, a JWE with A256KW and A256GCM in the packet),
// with Go's standard library and nothing between the message and the key: no sandbox, no
// policy, no audit log. Not for use with real images.
package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// name is the one under key-providers in ocicrypt.json, and so the name of the parameters.
const name = "kmscrypt"

// wrapType marks a packet whose wrapped_key is a JWE compact serialisation.
const wrapType = "JWE"

// Provider answers messages; it may do so concurrently.
type Provider struct {
	keystore keystore
}

// New returns a provider with the keys of a directory of JWK sets, NAME.jwks.
func New(dir string) *Provider {
	return &Provider{keystore: keystore{dir: dir}}
}

// message is the protocol's input, named as ocicrypt's Go library names it.
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

// packet is one wrapped copy of the opts data and how to unwrap it.
type packet struct {
	KeyURL     string `json:"key_url"`
	WrappedKey []byte `json:"wrapped_key"`
	WrapType   string `json:"wrap_type"`
}

// Answer answers one message.
func (p *Provider) Answer(input []byte) ([]byte, error) {
	var msg message
	if err := json.Unmarshal(input, &msg); err != nil {
		return nil, fmt.Errorf("the message is malformed: %w", err)
	}
	switch msg.Op {
	case "keywrap":
		uri, err := onlyValue(msg.WrapParams.Ec.Parameters)
		if err != nil {
			return nil, err
		}
		annotation, err := p.wrap(uri, msg.WrapParams.OptsData)
		if err != nil {
			return nil, fmt.Errorf("wrap with %s: %w", uri, err)
		}
		return answer("keywrapresults", "annotation", annotation), nil
	case "keyunwrap":
		optsData, err := p.unwrap(msg.UnwrapParams.Dc.Parameters[name], msg.UnwrapParams.Annotation)
		if err != nil {
			return nil, fmt.Errorf("unwrap: %w", err)
		}
		return answer("keyunwrapresults", "optsdata", optsData), nil
	default:
		return nil, fmt.Errorf("unknown operation %q", msg.Op)
	}
}

// answer writes data as numbers, the one form that both client libraries read;
// encoding/json would write base64.
func answer(results, member string, data []byte) []byte {
	out := make([]byte, 0, len(`{"":{"":[]}}`)+len(results)+len(member)+len("255,")*len(data))
	out = append(out, `{"`+results+`":{"`+member+`":[`...)
	for i, b := range data {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendUint(out, uint64(b), 10)
	}
	return append(out, "]}}"...)
}

// onlyValue returns the one key URI given for this provider.
func onlyValue(parameters map[string][][]byte) (string, error) {
	values := parameters[name]
	if len(values) != 1 {
		return "", fmt.Errorf("want one %s parameter, got %d", name, len(values))
	}
	return string(values[0]), nil
}

// wrap makes the annotation: a packet with optsData encrypted to the key that uri names.
func (p *Provider) wrap(uri string, optsData []byte) ([]byte, error) {
	keys, err := p.keystore.load(uri)
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
func (p *Provider) unwrap(named [][]byte, annotation []byte) ([]byte, error) {
	var pack packet
	if err := json.Unmarshal(annotation, &pack); err != nil {
		return nil, fmt.Errorf("the annotation is malformed: %w", err)
	}
	if pack.WrapType != wrapType {
		return nil, fmt.Errorf("unknown wrap_type %q", pack.WrapType)
	}
	if !matches(pack.KeyURL, named) {
		return nil, fmt.Errorf("the packet is for %s, which was not asked for", pack.KeyURL)
	}
	keys, err := p.keystore.load(pack.KeyURL)
	if err != nil {
		return nil, err
	}
	optsData, err := decryptJWE(keys, string(pack.WrappedKey))
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
