package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// confine gives up what a director needs no more once its sockets are bound: root, if it is to be another user; the
// capabilities; and, where the kernel has Landlock, to run programs, and to write anywhere but in these folders. They are
// made if they are not there.
func confine(name string, writable []string) error {
	for _, dir := range writable {
		if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), os.MkdirAll(dir, 0o700)); err != nil {
			return err
		}
	}
	if name != "" {
		if err := become(name, writable); err != nil {
			return fmt.Errorf("user %s: %w", name, err)
		}
	}
	for _, dir := range writable {
		if err := syscall.Access(dir, mayWrite|mayPass); err != nil {
			return fmt.Errorf("user %s cannot write to %s, or not pass the folders above it: %w", name, dir, err)
		}
	}
	if err := dropCapabilities(); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	readable := landlock.AccessFSSet(ll.AccessFSReadFile | ll.AccessFSReadDir)
	if err := landlock.V5.BestEffort().RestrictPaths(landlock.PathAccess(readable, "/"), landlock.RWDirs(writable...)); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	return nil
}

// What access(2) is asked for.
const (
	mayPass  = 1
	mayWrite = 2
)

// dropCapabilities leaves the process none of them (capabilities(7)), or, where it stays root, the one to write to folders
// that are another user's.
func dropCapabilities() error {
	left := cap.NewSet()
	if os.Geteuid() == 0 {
		may, err := cap.GetProc().GetFlag(cap.Permitted, cap.DAC_OVERRIDE)
		if err != nil {
			return err
		}
		for _, flag := range []cap.Flag{cap.Permitted, cap.Effective} {
			if err := left.SetFlag(flag, may, cap.DAC_OVERRIDE); err != nil {
				return err
			}
		}
	}
	return left.SetProc()
}

// become makes the process another user, for good. The folders, with the files right in them, become that user's.
func become(name string, folders []string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	if os.Geteuid() == uid {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("only root can become another user, and this is user %d", os.Geteuid())
	}
	for _, dir := range folders {
		if err := own(dir, uid, gid); err != nil {
			return err
		}
	}
	// The groups first: without root they cannot be given up. With the user, the capabilities go.
	if err := syscall.Setgroups([]int{gid}); err != nil {
		return err
	}
	if err := syscall.Setgid(gid); err != nil {
		return err
	}
	if err := syscall.Setuid(uid); err != nil {
		return err
	}
	if syscall.Setuid(0) == nil {
		return fmt.Errorf("the process could become root again")
	}
	return nil
}

// own gives a folder and the files in it to a user.
func own(dir string, uid, gid int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		err := os.Lchown(filepath.Join(dir, e.Name()), uid, gid)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // files are replaced meanwhile
			return err
		}
	}
	return os.Lchown(dir, uid, gid)
}
