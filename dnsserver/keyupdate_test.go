package dnsserver

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"net"
	"strings"
	"testing"
	"time"
)

// A client that renews its keys long after the last reply goes on being served: the server's part of the renewal is
// written while it reads.
func TestKeyUpdate(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for longer than replies may take")
	}
	dir := t.TempDir()
	trust := writeCertificate(t, dir, "one.example")
	c := testConfig()
	c.TLS = TLSConfig{Certificate: "cert.pem", Key: "key.pem"}
	scene := build(t, nil, nil)
	scene.Settings = c.Compile("dns", dir, nil, func(key string, value any, accepted string) { t.Errorf("%s: %v: %s", key, value, accepted) })
	o := serverOf(scene)
	o.ListenTLS = []string{"127.0.0.1:0"}
	raw := dial(t, serve(t, o))
	var keys bytes.Buffer
	conn := tls.Client(raw, &tls.Config{RootCAs: trust, ServerName: "one.example", MinVersion: tls.VersionTLS13, KeyLogWriter: &keys})
	if _, err := conn.Write(framed(t, question("mail"))); err != nil {
		t.Fatal(err)
	}
	readFramed(t, conn)
	if conn.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("the test has one cipher")
	}
	time.Sleep(writeTime + writeTime/5)
	secret := clientSecret(t, keys.String())
	const applicationData, handshake = 23, 22
	seal(t, raw, secret, 1, handshake, []byte{24, 0, 0, 1, 1}) // KeyUpdate, update_requested (RFC 8446, section 4.6.3)
	q := question("mail")
	seal(t, raw, expand(t, secret, "traffic upd", sha256.Size), 0, applicationData, framed(t, q))
	if m := readFramed(t, conn); m.Id != q.Id {
		t.Errorf("%v", m)
	}
}

// clientSecret is what protects what the client sends, from a log of keys.
func clientSecret(t *testing.T, log string) []byte {
	for line := range strings.Lines(log) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			b, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatalf("no secret in %s", log)
	return nil
}

// expand is HKDF-Expand-Label without context (RFC 8446, section 7.1).
func expand(t *testing.T, secret []byte, label string, n int) []byte {
	info := append(binary.BigEndian.AppendUint16(nil, uint16(n)), byte(len("tls13 "+label)))
	b, err := hkdf.Expand(sha256.New, secret, string(info)+"tls13 "+label+"\x00", n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// seal sends a record of TLS 1.3 (RFC 8446, section 5.2), the seq-th with this secret.
func seal(t *testing.T, conn net.Conn, secret []byte, seq uint64, kind byte, data []byte) {
	block, err := aes.NewCipher(expand(t, secret, "key", 16))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := expand(t, secret, "iv", 12)
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^seq)
	head := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(len(data)+1+aead.Overhead()))
	if _, err := conn.Write(aead.Seal(head, nonce, append(data, kind), head)); err != nil {
		t.Fatal(err)
	}
}
