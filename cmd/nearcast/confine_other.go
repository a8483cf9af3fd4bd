//go:build !linux

package main

import "errors"

// confine is for Linux: elsewhere a director stays what it was started as.
func confine(name string, _ []string) error {
	if name != "" {
		return errors.New("user: only on Linux a director becomes another user")
	}
	return nil
}
