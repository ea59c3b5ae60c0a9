package provider

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
)

// errCorrupt is every failed authentication: a bad key and a bad tag look the same.
var errCorrupt = errors.New("the JWE does not verify")

// header is a JWE protected header (RFC 7516).
type header struct {
	Alg string `json:"alg"`
	Enc string `json:"enc"`
	Kid string `json:"kid,omitempty"`
}

// encryptJWE encrypts plaintext to key with A256KW and A256GCM, in compact serialisation.
func encryptJWE(key jwk, plaintext []byte) (string, error) {
	protected, err := json.Marshal(header{Alg: "A256KW", Enc: "A256GCM", Kid: key.Kid})
	if err != nil {
		return "", err
	}
	var random [32 + 12]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", err
	}
	cek, iv := random[:32], random[32:]

	encryptedKey, err := wrapKey(key.kek, cek)
	if err != nil {
		return "", err
	}
	aead, err := newGCM(cek)
	if err != nil {
		return "", err
	}
	aad := base64.RawURLEncoding.EncodeToString(protected)
	sealed := aead.Seal(nil, iv, plaintext, []byte(aad))
	ciphertext, tag := sealed[:len(plaintext)], sealed[len(plaintext):]
	return strings.Join([]string{
		aad,
		base64.RawURLEncoding.EncodeToString(encryptedKey),
		base64.RawURLEncoding.EncodeToString(iv),
		base64.RawURLEncoding.EncodeToString(ciphertext),
		base64.RawURLEncoding.EncodeToString(tag),
	}, "."), nil
}

// decryptJWE is the inverse of encryptJWE, with whichever of keys the header's kid names.
func decryptJWE(keys []jwk, compact string) ([]byte, error) {
	parts := strings.Split(compact, ".")
	if len(parts) != 5 {
		return nil, errors.New("the JWE is malformed")
	}
	var raw [5][]byte
	for i, part := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			return nil, errors.New("the JWE is malformed")
		}
	}
	var head header
	if err := json.Unmarshal(raw[0], &head); err != nil {
		return nil, errors.New("the JWE's header is malformed")
	}
	if head.Alg != "A256KW" || head.Enc != "A256GCM" || len(raw[2]) != 12 || len(raw[4]) != 16 {
		return nil, errors.New("the JWE is not A256KW with A256GCM")
	}
	for _, key := range keys {
		if head.Kid != "" && head.Kid != key.Kid {
			continue
		}
		cek, err := unwrapKey(key.kek, raw[1])
		if err != nil {
			continue
		}
		aead, err := newGCM(cek)
		if err != nil {
			continue
		}
		plaintext, err := aead.Open(nil, raw[2], append(raw[3], raw[4]...), []byte(parts[0]))
		if err != nil {
			continue
		}
		return plaintext, nil
	}
	return nil, errCorrupt
}

func newGCM(cek []byte) (cipher.AEAD, error) {
	if len(cek) != 32 {
		return nil, errCorrupt
	}
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// keyWrapIV is the initial value of RFC 3394 section 2.2.3.1.
const keyWrapIV = 0xa6a6a6a6a6a6a6a6

// wrapKey is the AES key wrap of RFC 3394 section 2.2.1.
func wrapKey(kek cipher.Block, key []byte) ([]byte, error) {
	if len(key) < 16 || len(key)%8 != 0 {
		return nil, errors.New("a key to wrap has a multiple of 8 bytes, at least 16")
	}
	n := len(key) / 8
	out := make([]byte, 8+len(key)) // A is out[:8], R[i] is out[8*i:]
	binary.BigEndian.PutUint64(out, keyWrapIV)
	copy(out[8:], key)
	var b [aes.BlockSize]byte
	copy(b[:8], out[:8])
	for j := 0; j < 6; j++ {
		for i := 1; i <= n; i++ {
			r := out[8*i : 8*i+8]
			copy(b[8:], r)
			kek.Encrypt(b[:], b[:])
			copy(r, b[8:])
			t := binary.BigEndian.Uint64(b[:8]) ^ uint64(n*j+i)
			binary.BigEndian.PutUint64(b[:8], t)
		}
	}
	copy(out[:8], b[:8])
	return out, nil
}

// unwrapKey is the AES key unwrap of RFC 3394 section 2.2.2.
func unwrapKey(kek cipher.Block, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 24 || len(wrapped)%8 != 0 {
		return nil, errCorrupt
	}
	n := len(wrapped)/8 - 1
	key := append([]byte(nil), wrapped[8:]...) // R[i] is key[8*(i-1):]
	var b [aes.BlockSize]byte
	copy(b[:8], wrapped[:8])
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			t := binary.BigEndian.Uint64(b[:8]) ^ uint64(n*j+i)
			binary.BigEndian.PutUint64(b[:8], t)
			r := key[8*(i-1) : 8*i]
			copy(b[8:], r)
			kek.Decrypt(b[:], b[:])
			copy(r, b[8:])
		}
	}
	var iv [8]byte
	binary.BigEndian.PutUint64(iv[:], keyWrapIV)
	if subtle.ConstantTimeCompare(b[:8], iv[:]) != 1 {
		return nil, errCorrupt
	}
	return key, nil
}
