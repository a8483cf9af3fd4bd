package zones

import (
	"fmt"
	"os"
	"time"

	"github.com/google/renameio/v2"
	"github.com/miekg/dns"
)

// A fed zone's file is a copy of its primaries' zone. Beside it stands an empty file whose time is when a primary
// last said that the copy is the newest version; from then on the copy is good for the SOA's expire time (RFC 1035, section 3.3.13).

// Confirmation is the path of the file beside the copy at path.
func Confirmation(path string) string { return path + ".confirmed" }

// Confirm notes that a primary said at t that the copy at path is the newest version. The file is made anew each time: only
// its owner may set a file's time, and one of an earlier start may be another user's.
func Confirm(path string, t time.Time) error {
	f, err := renameio.NewPendingFile(Confirmation(path), renameio.WithPermissions(0o600))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if err := os.Chtimes(f.Name(), t, t); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// Confirmed is when a primary last said that the copy at path is the newest version; an error if none ever did.
func Confirmed(path string) (time.Time, error) {
	info, err := os.Stat(Confirmation(path))
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// absent says why a copy cannot be used as it stands, "" if it may.
func (c *Content) absent() string {
	switch {
	case c.missing:
		return "not transferred yet"
	case c.damaged:
		return "the copy cannot be used: " + errDamaged.Error()
	}
	return ""
}

// expired says that a copy is too old, "" if it is not. One that an operator put there, which no primary confirmed, is
// as old as its file; what was transferred just now is new.
func (c *Content) expired(soa *dns.SOA) string {
	if c.given {
		return ""
	}
	t, err := Confirmed(c.files[0])
	if err != nil {
		t = c.stamps[0].time
	}
	if life := time.Duration(soa.Expire) * time.Second; time.Since(t) > life {
		return fmt.Sprintf("expired: no primary confirmed it for %v", life)
	}
	return ""
}
