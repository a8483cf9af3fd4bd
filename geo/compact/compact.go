// Package compact is the form of the embedded database: places of networks, at the
// grain of provinces, /24 and /48, in a few megabytes.
//
// This use, therefore this form: the file is read once at start and lives in the
// repository, so it is small before all else. Runs of networks become streams of
// small numbers of one kind each, which gzip packs well, and which decode in order.
//
//	"ncgeo1\n", then gzip of uvarints (RFC 1952; encoding/binary):
//	built (Unix seconds), length and octets of the source's name,
//	number of labels, and for each: country (2 octets, or a 0 octet for none), length and octets of the
//	subdivision, latitude and longitude in 0.01 degrees (zigzag); the most used first;
//	number of IPv4 runs, all their lengths in /24, all their labels; they cover the whole space;
//	number of IPv6 runs, the gaps before them in /48, their lengths in /48, their labels.
//
// Label 0 is "nothing known", label n the n-th of the table.
package compact

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

const magic = "ncgeo1\n"

// The address spaces, in units of the runs.
const (
	Units4 = 1 << 24 // of /24
	Units6 = 1 << 48 // of /48
)

// The bounds of a file. They bound what a corrupt one can make the reader allocate.
const (
	maxLabels = 1 << 16
	maxRuns   = 1 << 23
	maxText   = 255
	maxRaw    = 64 << 20 // octets unpacked; the file of June 2026 has 16 MiB
)

// Data is a database.
type Data struct {
	Built  time.Time // to the second
	Source string
	Labels []Label
	V4     []Run // ascending, without gaps or overlaps, over the whole space
	V6     []Run // ascending, without overlaps; what is between is not known
}

// A Label is a place that many networks share.
type Label struct {
	Country     string // two letters, or ""
	Subdivision string
	Lat, Lon    int // in 0.01 degrees
}

// A Run is Count units, from Start on, that share a label: 0 for none, n for Labels[n-1].
type Run struct {
	Start, Count uint64
	Label        uint32
}

// Encode writes d.
func Encode(w io.Writer, d *Data) error {
	if _, err := io.WriteString(w, magic); err != nil {
		return err
	}
	zip, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	e := encoder{w: bufio.NewWriter(zip)}
	e.number(uint64(d.Built.Unix()))
	e.text(d.Source)
	e.number(uint64(len(d.Labels)))
	for _, l := range d.Labels {
		e.label(l)
	}
	e.number(uint64(len(d.V4)))
	e.each(d.V4, func(r Run) uint64 { return r.Count })
	e.each(d.V4, func(r Run) uint64 { return uint64(r.Label) })
	e.number(uint64(len(d.V6)))
	end := uint64(0)
	e.each(d.V6, func(r Run) uint64 {
		gap := r.Start - end
		end = r.Start + r.Count
		return gap
	})
	e.each(d.V6, func(r Run) uint64 { return r.Count })
	e.each(d.V6, func(r Run) uint64 { return uint64(r.Label) })
	return errors.Join(e.err, e.w.Flush(), zip.Close())
}

type encoder struct {
	w   *bufio.Writer
	err error // the first
}

func (e *encoder) write(b []byte) {
	if e.err == nil {
		_, e.err = e.w.Write(b)
	}
}

func (e *encoder) number(n uint64) { e.write(binary.AppendUvarint(nil, n)) }

func (e *encoder) text(s string) {
	if len(s) > maxText && e.err == nil {
		e.err = fmt.Errorf("a text of %d octets, more than %d", len(s), maxText)
	}
	e.number(uint64(len(s)))
	e.write([]byte(s))
}

func (e *encoder) label(l Label) {
	if l.Country == "" {
		e.write([]byte{0})
	} else {
		e.write([]byte(l.Country)[:2])
	}
	e.text(l.Subdivision)
	e.write(binary.AppendVarint(nil, int64(l.Lat)))
	e.write(binary.AppendVarint(nil, int64(l.Lon)))
}

func (e *encoder) each(runs []Run, value func(Run) uint64) {
	for _, r := range runs {
		e.number(value(r))
	}
}

// ErrCorrupt is in every error of Decode that comes from the data.
var ErrCorrupt = errors.New("corrupt database")

// Decode reads what Encode wrote. gzip's checksum covers all of it.
func Decode(r io.Reader) (*Data, error) {
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return nil, fmt.Errorf("%w: not of this form", ErrCorrupt)
	}
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	raw, err := io.ReadAll(io.LimitReader(zip, maxRaw+1)) // compares the checksum
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	d := decoder{b: raw}
	out := d.data()
	if len(d.b) > 0 {
		d.fail("%d octets after the end, or more than %d in all", len(d.b), maxRaw)
	}
	if d.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, d.err)
	}
	return out, nil
}

type decoder struct {
	b   []byte // what is left
	err error  // the first
}

var errShort = errors.New("it ends early")

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// number reads a number of at most most.
func (d *decoder) number(most uint64) uint64 {
	if d.err != nil {
		return 0
	}
	var n uint64
	if len(d.b) > 0 && d.b[0] < 0x80 { // most are short
		n, d.b = uint64(d.b[0]), d.b[1:]
	} else {
		v, size := binary.Uvarint(d.b)
		if size <= 0 {
			d.fail("%w", errShort)
			return 0
		}
		n, d.b = v, d.b[size:]
	}
	if n > most {
		d.fail("%d where at most %d makes sense", n, most)
		return 0
	}
	return n
}

func (d *decoder) text(n uint64) string {
	if d.err != nil || uint64(len(d.b)) < n {
		d.fail("%w", errShort)
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) data() *Data {
	out := &Data{Built: time.Unix(int64(d.number(1<<40)), 0).UTC()}
	out.Source = d.text(d.number(maxText))
	for range d.number(maxLabels) {
		if d.err != nil {
			return out
		}
		out.Labels = append(out.Labels, d.label())
	}
	end := uint64(0)
	out.V4 = d.each(d.number(maxRuns), func() Run {
		r := Run{Start: end, Count: d.number(Units4 - end)}
		end += r.Count
		return r
	})
	if len(out.V4) > 0 && end != Units4 {
		d.fail("IPv4 is covered up to %d of %d", end, uint64(Units4))
	}
	d.labels(out, out.V4)
	d.runs6(out)
	return out
}

// each reads n runs, or as many as there are: what is not there takes no memory.
func (d *decoder) each(n uint64, read func() Run) []Run {
	runs := make([]Run, 0, min(n, uint64(len(d.b)))) // each takes an octet at least
	for range n {
		r := read()
		if d.err != nil {
			break
		}
		runs = append(runs, r)
	}
	return runs
}

func (d *decoder) runs6(out *Data) {
	out.V6 = d.each(d.number(maxRuns), func() Run { return Run{Start: d.number(Units6)} }) // the gap, for now
	end := uint64(0)
	for i := range out.V6 {
		r := &out.V6[i]
		r.Start += end
		if r.Start > Units6 {
			d.fail("a run beyond the end of IPv6")
			return
		}
		r.Count = d.number(Units6 - r.Start)
		end = r.Start + r.Count
	}
	d.labels(out, out.V6)
}

func (d *decoder) labels(out *Data, runs []Run) {
	for i := range runs {
		runs[i].Label = uint32(d.number(uint64(len(out.Labels))))
		if runs[i].Count == 0 {
			d.fail("an empty run")
		}
		if d.err != nil {
			return
		}
	}
}

func (d *decoder) label() Label {
	var l Label
	if first := d.text(1); first != "\x00" {
		l.Country = first + d.text(1)
	}
	l.Subdivision = d.text(d.number(maxText))
	l.Lat, l.Lon = d.degrees(9000), d.degrees(18000)
	return l
}

func (d *decoder) degrees(most int64) int {
	if d.err != nil {
		return 0
	}
	n, size := binary.Varint(d.b)
	if size <= 0 || n < -most || n > most {
		d.fail("%d hundredths of a degree, or it ends early", n)
		return 0
	}
	d.b = d.b[size:]
	return int(n)
}
