package dnsserver

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
)

// The PROXY protocol, version 2, tells whose query a balancer hands on
// (https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt, section 2.2).
const (
	proxyMagic = "\r\n\r\n\x00\r\nQUIT\n"
	proxyHead  = 16      // octets before the addresses
	maxProxy   = 4 << 10 // octets of addresses and what else a balancer tells: some 100, with a client's certificate a few thousand
)

var errProxy = errors.New("no header of the PROXY protocol, version 2")

// proxySource reads the header at the start of b: the source that it names, not valid if the balancer asks for
// itself, and the header's length. What b lacks of it is an error.
func proxySource(b []byte) (source netip.AddrPort, n int, err error) {
	if len(b) < proxyHead || string(b[:len(proxyMagic)]) != proxyMagic {
		return source, 0, errProxy
	}
	command, family := b[12], b[13]>>4
	n = proxyHead + int(binary.BigEndian.Uint16(b[14:]))
	if n > proxyHead+maxProxy || len(b) < n {
		return source, 0, errProxy
	}
	addresses := b[proxyHead:n]
	switch {
	case command == 0x20: // LOCAL
		return source, n, nil
	case command != 0x21: // PROXY
	case family == 1 && len(addresses) >= 12:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addresses)), binary.BigEndian.Uint16(addresses[8:])), n, nil
	case family == 2 && len(addresses) >= 36:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addresses)).Unmap(), binary.BigEndian.Uint16(addresses[32:])), n, nil
	}
	return source, 0, errProxy
}

// readProxyHeader reads a connection's header.
func readProxyHeader(r io.Reader) (source netip.AddrPort, err error) {
	b := make([]byte, proxyHead)
	if _, err := io.ReadFull(r, b); err != nil {
		return source, err
	}
	n := int(binary.BigEndian.Uint16(b[14:]))
	if n > maxProxy {
		return source, errProxy
	}
	b = append(b, make([]byte, n)...)
	if _, err := io.ReadFull(r, b[proxyHead:]); err != nil {
		return source, err
	}
	source, _, err = proxySource(b)
	return source, err
}
