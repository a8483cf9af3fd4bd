package zones

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/miekg/dns"
)

// A fed zone's file is a copy of its primaries' zone. Beside it stands an empty file whose time is when a primary
// last said that the copy is the newest version; from then on the copy is good for the SOA's expire time (RFC 1035, section 3.3.13).

// confirmation is the path of the file beside a copy.
func confirmation(path string) string { return path + ".confirmed" }

// Confirm notes that a primary said at t that the copy at path is the newest version.
func Confirm(path string, t time.Time) error {
	f, err := os.OpenFile(confirmation(path), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Chtimes(confirmation(path), t, t))
}

// Confirmed is when a primary last said that the copy at path is the newest version; an error if none ever did.
func Confirmed(path string) (time.Time, error) {
	info, err := os.Stat(confirmation(path))
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// absent says why there is no copy at path, "" if there may be one.
func absent(path string) string {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "not transferred yet"
	}
	return ""
}

// expired says that a copy is too old, "" if it is not. One that an operator put there, which no primary confirmed, is
// as old as its file.
func expired(path string, soa *dns.SOA) string {
	t, err := Confirmed(path)
	if err != nil {
		info, err := os.Stat(path)
		if err != nil {
			return reason(err)
		}
		t = info.ModTime()
	}
	if life := time.Duration(soa.Expire) * time.Second; time.Since(t) > life {
		return fmt.Sprintf("expired: no primary confirmed it for %v", life)
	}
	return ""
}
