// Command imgcrypt decrypts an image as containerd does: with imgcrypt's library, in a content
// store of containerd's own.
//
//	imgcrypt LAYOUT [KEY...]    prints the digests of the decrypted layers, one a line
//
// LAYOUT is an OCI layout of one image; it stays as it is. KEY is provider:NAME:KEY_URI.
// OCICRYPT_KEYPROVIDER_CONFIG names the ocicrypt.json.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/imgcrypt/v2/images/encryption"
	"github.com/containerd/log"
	"github.com/containers/ocicrypt/helpers"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	_ = log.SetLevel("error") // the store warns of file systems without fs-verity
	layers, err := run(context.Background(), os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "imgcrypt:", err)
		os.Exit(1)
	}
	for _, layer := range layers {
		fmt.Println(layer.Digest)
	}
}

func run(ctx context.Context, arguments []string) ([]ocispec.Descriptor, error) {
	if len(arguments) == 0 {
		return nil, errors.New("usage: imgcrypt LAYOUT [KEY...]")
	}
	layout, keys := arguments[0], arguments[1:]
	crypto, err := helpers.CreateDecryptCryptoConfig(keys, nil)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "imgcrypt")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	store, err := local.NewStore(folder)
	if err != nil {
		return nil, err
	}

	image, err := pull(ctx, store, layout)
	if err != nil {
		return nil, err
	}
	// What containerd asks before it makes a container of the image.
	if err := encryption.CheckAuthorization(ctx, store, image, crypto.DecryptConfig); err != nil {
		return nil, err
	}
	everyLayer := func(ocispec.Descriptor) bool { return true }
	decrypted, _, err := encryption.DecryptImage(ctx, store, image, &crypto, everyLayer)
	if err != nil {
		return nil, err
	}
	manifest, err := images.Manifest(ctx, store, decrypted, nil)
	return manifest.Layers, err
}

// pull copies the one image of a layout into the store.
func pull(ctx context.Context, store content.Store, layout string) (ocispec.Descriptor, error) {
	var index ocispec.Index
	text, err := os.ReadFile(filepath.Join(layout, ocispec.ImageIndexFile))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := json.Unmarshal(text, &index); err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(index.Manifests) != 1 {
		return ocispec.Descriptor{}, fmt.Errorf("%s holds %d images, not one", layout, len(index.Manifests))
	}
	image := index.Manifests[0]
	copyBlob := func(ctx context.Context, blob ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		file, err := os.Open(filepath.Join(layout, ocispec.ImageBlobsDir, blob.Digest.Algorithm().String(), blob.Digest.Encoded()))
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return nil, content.WriteBlob(ctx, store, blob.Digest.String(), file, blob)
	}
	return image, images.Walk(ctx, images.Handlers(images.HandlerFunc(copyBlob), images.ChildrenHandler(store)), image)
}
