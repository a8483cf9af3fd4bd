package healthmesh

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
)

// A PublicKey names a node that signs (ed25519, RFC 8032): 32 bytes.
type PublicKey [ed25519.PublicKeySize]byte

// String is the form of the configuration file: base64, 44 characters.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// ParsePublicKey reads the form of the configuration file.
func ParsePublicKey(text string) (PublicKey, error) {
	var k PublicKey
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) != len(k) {
		return k, fmt.Errorf("%q is not base64 of the %d bytes of a public key", text, len(k))
	}
	return PublicKey(b), nil
}

// A keyID tells which of several keys made a signature: the first bytes of the key's hash.
type keyID [keyIDBytes]byte

const keyIDBytes = 4

func (k PublicKey) id() keyID {
	sum := sha256.Sum256(k[:])
	return keyID(sum[:keyIDBytes])
}

// signatureBytes is what a signature adds to a message: the id of the key and the signature.
const signatureBytes = keyIDBytes + ed25519.SignatureSize

// An Identity is what a node signs with. Nil signs nothing.
type Identity struct {
	private ed25519.PrivateKey
	public  PublicKey
	id      keyID
}

// GenerateIdentity returns a new identity as a line of its file has it: base64 of a seed of 32 bytes.
func GenerateIdentity() string {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // never fails
	return base64.StdEncoding.EncodeToString(seed)
}

// ParseIdentity reads a line that GenerateIdentity made.
func ParseIdentity(line string) (*Identity, error) {
	seed, err := base64.StdEncoding.DecodeString(line)
	if err != nil || len(seed) != ed25519.SeedSize { // the line stays out of the error: it may be most of a key
		return nil, fmt.Errorf("not base64 of %d bytes", ed25519.SeedSize)
	}
	i := &Identity{private: ed25519.NewKeyFromSeed(seed)}
	i.public = PublicKey(i.private.Public().(ed25519.PublicKey))
	i.id = i.public.id()
	return i, nil
}

// LoadIdentity reads an identity's file; none if file is "".
func LoadIdentity(file string) (*Identity, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	i, err := ParseIdentity(string(bytes.TrimSpace(text)))
	if err != nil {
		return nil, fmt.Errorf("identity file %s: %w", file, err)
	}
	return i, nil
}

// Public is the key that others know the identity by.
func (i *Identity) Public() PublicKey { return i.public }

// The contexts of signatures: one made for a use means nothing in another.
const (
	signReport = "nearcast report 2\x00"
	signOrders = "nearcast orders 2\x00"
	signRing   = "nearcast keyring 2\x00"
)

// sign appends the id of the key and the signature of message in a context to it; without an identity, nothing.
func (i *Identity) sign(context string, message []byte) []byte {
	if i == nil {
		return message
	}
	s := ed25519.Sign(i.private, append([]byte(context), message...))
	return append(append(message, i.id[:]...), s...)
}

// keys are public keys by id.
type keys map[keyID]PublicKey

// verify says whether signature, as sign appends it, is of message in the context by one of the keys.
func (all keys) verify(context string, message, signature []byte) bool {
	if len(signature) != signatureBytes {
		return false
	}
	k, known := all[keyID(signature)]
	return known && ed25519.Verify(k[:], append([]byte(context), message...), signature[keyIDBytes:])
}
