package main

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/config"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// wrappedLayer is an encrypted layer and what stands in the manifest about it.
type wrappedLayer struct {
	Layer       []byte            `json:"layer"`
	Annotations map[string]string `json:"annotations"`
}

func wrap(recipients *config.EncryptConfig, in io.Reader, out io.Writer) error {
	plain, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	wrapped, err := encrypt(recipients, plain)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(wrapped)
}

func unwrap(keys *config.DecryptConfig, in io.Reader, out io.Writer) error {
	var wrapped wrappedLayer
	if err := json.NewDecoder(in).Decode(&wrapped); err != nil {
		return err
	}
	plain, err := decrypt(keys, wrapped)
	if err != nil {
		return err
	}
	_, err = out.Write(plain)
	return err
}

func encrypt(recipients *config.EncryptConfig, plain []byte) (wrappedLayer, error) {
	layer := ocispec.Descriptor{Digest: digest.FromBytes(plain)}
	reader, annotations, err := ocicrypt.EncryptLayer(recipients, bytes.NewReader(plain), layer)
	if err != nil {
		return wrappedLayer{}, err
	}
	var wrapped wrappedLayer
	if wrapped.Layer, err = io.ReadAll(reader); err != nil {
		return wrappedLayer{}, err
	}
	// The provider is called only now, when the layer's key has a MAC beside it.
	wrapped.Annotations, err = annotations()
	return wrapped, err
}

func decrypt(keys *config.DecryptConfig, wrapped wrappedLayer) ([]byte, error) {
	layer := ocispec.Descriptor{Annotations: wrapped.Annotations}
	reader, _, err := ocicrypt.DecryptLayer(keys, bytes.NewReader(wrapped.Layer), layer, false)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader) // which checks the MAC
}
