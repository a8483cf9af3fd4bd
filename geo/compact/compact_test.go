package compact

import (
	"bytes"
	"compress/gzip"
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// someData draws a database that Encode takes.
func someData(t *rapid.T) *Data {
	d := &Data{Built: time.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "built"), 0).UTC(), Source: rapid.StringN(0, 20, 200).Draw(t, "source")}
	for range rapid.IntRange(1, 20).Draw(t, "labels") {
		d.Labels = append(d.Labels, Label{
			Country:     rapid.SampledFrom([]string{"", "US", "AU", "DE"}).Draw(t, "country"),
			Subdivision: rapid.StringN(0, 20, 80).Draw(t, "subdivision"),
			Lat:         rapid.IntRange(-9000, 9000).Draw(t, "lat"), Lon: rapid.IntRange(-18000, 18000).Draw(t, "lon"),
		})
	}
	label := rapid.Uint32Range(0, uint32(len(d.Labels)))
	d.V4, d.V6 = []Run{}, []Run{}
	for at := uint64(0); at < Units4; {
		n := min(rapid.Uint64Range(1, Units4/3).Draw(t, "count"), Units4-at)
		d.V4 = append(d.V4, Run{at, n, label.Draw(t, "label")})
		at += n
	}
	at := uint64(0)
	for range rapid.IntRange(0, 20).Draw(t, "runs6") {
		at += rapid.Uint64Range(0, 1<<20).Draw(t, "gap")
		n := rapid.Uint64Range(1, 1<<40).Draw(t, "count")
		d.V6 = append(d.V6, Run{at, n, label.Draw(t, "label")})
		at += n
	}
	return d
}

func encode(t interface{ Fatal(...any) }, d *Data) []byte {
	var b bytes.Buffer
	if err := Encode(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := someData(t)
		b := encode(t, d)
		got, err := Decode(bytes.NewReader(b))
		if err != nil || !reflect.DeepEqual(got, d) {
			t.Fatalf("%+v, want %+v: %v", got, d, err)
		}
		if again := encode(t, d); !bytes.Equal(again, b) {
			t.Fatal("the same data is encoded unlike")
		}
	})
}

// A file that is cut or changed anywhere is refused.
func TestCorrupt(t *testing.T) {
	b := encode(t, &Data{Source: "x", Labels: []Label{{"US", "Ohio", 1, 2}}, V4: []Run{{0, Units4, 1}}, V6: []Run{{5, 6, 1}}})
	for i := range b {
		if _, err := Decode(bytes.NewReader(b[:i])); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	for i := len(magic) + 10; i < len(b); i++ { // gzip's header has a time and a system, which mean nothing
		c := bytes.Clone(b)
		c[i] ^= 0x10
		if _, err := Decode(bytes.NewReader(c)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("octet %d changed: %v", i, err)
		}
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	for name, d := range map[string]*Data{
		"a label that is not there": {Labels: []Label{{}}, V4: []Run{{0, Units4, 2}}},
		"IPv4 not covered":          {V4: []Run{{0, 5, 0}}},
		"more than IPv4":            {V4: []Run{{0, Units4 + 1, 0}}},
		"an empty run":              {V6: []Run{{0, 0, 0}}},
		"more than IPv6":            {V6: []Run{{Units6 - 1, 2, 0}}},
		"a latitude of 91":          {Labels: []Label{{"US", "", 9100, 0}}},
	} {
		if _, err := Decode(bytes.NewReader(encode(t, d))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever the octets, Decode returns data that encodes to what decodes alike, or an error.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0}, true)
	f.Add(encode(f, &Data{Labels: []Label{{"US", "Ohio", 1, 2}}, V4: []Run{{0, Units4, 1}}, V6: []Run{{5, 6, 1}}}), false)
	f.Fuzz(func(t *testing.T, b []byte, wrap bool) {
		if wrap { // the checksum would stop all that is not wrapped
			var z bytes.Buffer
			z.WriteString(magic)
			w := gzip.NewWriter(&z)
			if _, err := w.Write(b); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			b = z.Bytes()
		}
		d, err := Decode(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := Decode(bytes.NewReader(encode(t, d)))
		if err != nil || !reflect.DeepEqual(again, d) {
			t.Errorf("%+v, then %+v: %v", d, again, err)
		}
	})
}
