package dnsserver

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A mute client says hello, and nothing more.
type mute struct{ net.Conn }

func (mute) Read([]byte) (int, error) { return 0, errors.New("mute") }

// Handshakes take turns, and wait for nobody who does not go on.
func TestHandshakesTakeTurns(t *testing.T) {
	dir := t.TempDir()
	trust := writeCertificate(t, dir, "one.example")
	c := testConfig()
	c.TLS = TLSConfig{Certificate: "cert.pem", Key: "key.pem"}
	scene := build(t, nil, nil)
	scene.Settings = c.Compile("dns", dir, nil, func(key string, value any, accepted string) { t.Errorf("%s: %v: %s", key, value, accepted) })
	o := serverOf(scene, "127.0.0.1:0")
	o.ListenTLS = []string{"127.0.0.1:0"}
	s := serve(t, o)
	config := &tls.Config{RootCAs: trust, ServerName: "one.example", MinVersion: tls.VersionTLS12}
	connect := func() net.Conn {
		t.Helper()
		conn, err := net.DialTimeout("tcp", s.Addrs()[1], patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
		return conn
	}
	ask := func() {
		t.Helper()
		conn := tls.Client(connect(), config)
		if _, err := conn.Write(framed(t, question("mail"))); err != nil {
			t.Fatal(err)
		}
		readFramed(t, conn)
	}
	for range 2 * cap(computing) {
		conn := connect()
		if err := tls.Client(mute{conn}, config).Handshake(); err == nil {
			t.Fatal("a client that hears nothing is content")
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil { // the server's part has come
			t.Fatal(err)
		}
	}
	ask()

	// While others compute, one that begins waits, and queries do not.
	for range cap(computing) {
		computing <- struct{}{}
	}
	waiting := connect()
	done := make(chan error, 1)
	go func() { done <- tls.Client(waiting, config).Handshake() }()
	for range 100 {
		if _, _, err := (&dns.Client{Timeout: patience}).Exchange(question("mail"), s.Addrs()[0]); err != nil {
			t.Error(err)
		}
	}
	select {
	case err := <-done:
		t.Errorf("a handshake without a place: %v", err)
	default:
	}
	for range cap(computing) {
		<-computing
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	ask()
	for end := time.Now().Add(patience); len(computing) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d places are taken by nobody", len(computing))
		}
	}
}
