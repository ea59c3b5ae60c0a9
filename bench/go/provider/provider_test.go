package provider

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func cipherOf(t *testing.T, key []byte) cipher.Block {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 3394 section 4.6: 256 bits of key data with a 256-bit KEK.
func TestKeyWrapRFC3394(t *testing.T) {
	kek := cipherOf(t, unhex(t, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"))
	key := unhex(t, "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f")
	want := unhex(t, "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21")

	got, err := wrapKey(kek, key)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("wrapKey = %x, %v; want %x", got, err, want)
	}
	back, err := unwrapKey(kek, got)
	if err != nil || !bytes.Equal(back, key) {
		t.Fatalf("unwrapKey = %x, %v; want %x", back, err, key)
	}
	for i := range got {
		bad := append([]byte(nil), got...)
		bad[i] ^= 1
		if _, err := unwrapKey(kek, bad); err != errCorrupt {
			t.Errorf("a flipped bit in byte %d: err = %v", i, err)
		}
	}
}

const optsData = `{"symkey":"bdhUK2c778nWUudQgCwFW9gxjaZSsSyk7bH6vWJY7Zk=","digest":"sha256:` +
	`fa8cd3cc1b54693d960ba043b203f3c6ee94cb858b2044e90cf934cd96f3ae89","cipheroptions":{"nonce":"MrCECZwGoAn7dSbloBcDNQ=="}}`

func newKeystore(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, first := range map[string]byte{"bench": 1, "other": 2} {
		k := bytes.Repeat([]byte{first}, 32)
		set := `{"keys":[{"kty":"oct","k":"` + base64.RawURLEncoding.EncodeToString(k) + `","kid":"1","alg":"A256KW"}]}`
		if err := os.WriteFile(filepath.Join(dir, name+".jwks"), []byte(set), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// results are an answer as ocicrypt's Go library reads it.
type results struct {
	Wrap *struct {
		Annotation []byte `json:"annotation"`
	} `json:"keywrapresults"`
	Unwrap *struct {
		OptsData []byte `json:"optsdata"`
	} `json:"keyunwrapresults"`
}

func exchange(t *testing.T, dir, msg string) (results, error) {
	t.Helper()
	output, err := New(dir).Answer([]byte(msg))
	if err != nil {
		return results{}, err
	}
	if bytes.Contains(output, []byte(`":"`)) {
		t.Errorf("bytes are not written as numbers: %s", output)
	}
	var ans results
	if err := json.Unmarshal(output, &ans); err != nil {
		t.Fatal(err)
	}
	return ans, nil
}

func wrapMessage(uri string) string {
	return `{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"kmscrypt":["` + base64.StdEncoding.EncodeToString([]byte(uri)) +
		`"]},"DecryptConfig":{"Parameters":{}}},"optsdata":"` + base64.StdEncoding.EncodeToString([]byte(optsData)) +
		`"},"keyunwrapparams":{"dc":null,"annotation":null}}`
}

func unwrapMessage(annotation []byte, uri string) string {
	return `{"op":"keyunwrap","keywrapparams":{"ec":null,"optsdata":null},"keyunwrapparams":{"dc":{"Parameters":{"kmscrypt":["` +
		base64.StdEncoding.EncodeToString([]byte(uri)) + `"]}},"annotation":"` + base64.StdEncoding.EncodeToString(annotation) + `"}}`
}

func TestRoundTrip(t *testing.T) {
	dir := newKeystore(t)
	wrapped, err := exchange(t, dir, wrapMessage("local://bench"))
	if err != nil {
		t.Fatal(err)
	}
	if wrapped.Wrap == nil || wrapped.Unwrap != nil {
		t.Fatalf("a wrap's answer has its own results only: %+v", wrapped)
	}
	annotation := wrapped.Wrap.Annotation
	var p packet
	if err := json.Unmarshal(annotation, &p); err != nil || p.KeyURL != "local://bench" || p.WrapType != "JWE" {
		t.Fatalf("packet %+v, %v", p, err)
	}

	got, err := exchange(t, dir, unwrapMessage(annotation, "local://bench"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Unwrap.OptsData) != optsData {
		t.Fatalf("unwrapped %q", got.Unwrap.OptsData)
	}

	if _, err := exchange(t, dir, unwrapMessage(annotation, "local://other")); err == nil {
		t.Error("a packet for a key that was not asked for was unwrapped")
	}
	other := bytes.Replace(annotation, []byte("local://bench"), []byte("local://other"), 1)
	if _, err := exchange(t, dir, unwrapMessage(other, "local://other")); err == nil {
		t.Error("a packet was unwrapped with another key")
	}
	tampered := p
	tampered.WrappedKey = append([]byte(nil), p.WrappedKey...)
	flipped := byte('A')
	if last := len(tampered.WrappedKey) - 2; tampered.WrappedKey[last] == flipped {
		flipped = 'B'
	}
	tampered.WrappedKey[len(tampered.WrappedKey)-2] = flipped
	bad, err := json.Marshal(tampered)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exchange(t, dir, unwrapMessage(bad, "local://bench")); err == nil {
		t.Error("a tampered packet was unwrapped")
	}
}

func TestRefuses(t *testing.T) {
	dir := newKeystore(t)
	for name, msg := range map[string]string{
		"no JSON":          `{`,
		"unknown op":       `{"op":"keywarp"}`,
		"no parameter":     `{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{}},"optsdata":"e30="}}`,
		"path in the name": wrapMessage("local://../bench"),
		"other scheme":     wrapMessage("gcpkms://projects/p"),
		"unknown key":      wrapMessage("local://missing"),
	} {
		if _, err := exchange(t, dir, msg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
