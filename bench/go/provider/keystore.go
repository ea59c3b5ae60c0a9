package provider

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// keystore is a directory of JWK sets, NAME.jwks.
type keystore struct {
	dir string
	// Read once, unlike ocicrypt-kms's: a server that forgets about rotation is the faster baseline.
	read sync.Map // from key URI to []jwk
}

// jwk is one symmetric key of a JWK set (RFC 7517).
type jwk struct {
	Kty string `json:"kty"`
	K   string `json:"k"`
	Kid string `json:"kid"`
	Alg string `json:"alg"`

	kek cipher.Block // of k
}

// load returns the A256KW keys of local://NAME.
func (s *keystore) load(uri string) ([]jwk, error) {
	if keys, ok := s.read.Load(uri); ok {
		return keys.([]jwk), nil
	}
	keys, err := readKeys(s.dir, uri)
	if err == nil {
		s.read.Store(uri, keys)
	}
	return keys, err
}

func readKeys(dir, uri string) ([]jwk, error) {
	name := strings.TrimPrefix(uri, "local://")
	if name == uri || !validName(name) {
		return nil, fmt.Errorf("%q is not local://NAME", uri)
	}
	data, err := os.ReadFile(filepath.Join(dir, name+".jwks"))
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("%s.jwks is not a JWK set: %w", name, err)
	}
	if len(set.Keys) == 0 {
		return nil, fmt.Errorf("%s.jwks has no key", name)
	}
	for i := range set.Keys {
		key := &set.Keys[i]
		if key.Kty != "oct" || key.Alg != "A256KW" {
			return nil, fmt.Errorf("%s.jwks: kty %q with alg %q is not supported", name, key.Kty, key.Alg)
		}
		k, err := base64.RawURLEncoding.DecodeString(key.K)
		if err != nil || len(k) != 32 {
			return nil, errors.New("an A256KW key has 32 bytes")
		}
		if key.kek, err = aes.NewCipher(k); err != nil {
			return nil, err
		}
	}
	return set.Keys, nil
}

func validName(name string) bool {
	if name == "" || name[0] == '.' {
		return false
	}
	for _, c := range name {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune("._-", c):
		default:
			return false
		}
	}
	return true
}
