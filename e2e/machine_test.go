package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A process with noFiles opens none beyond those that it has.
const noFiles, manyFiles = 3, 1024

func (w *world) limitFiles(name string, most uint64) {
	w.t.Helper()
	limit := unix.Rlimit{Cur: most, Max: manyFiles}
	if err := unix.Prlimit(w.procs[name].cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		w.t.Errorf("prlimit of %s: %v", name, err)
	}
}

func (w *world) filler() string { return filepath.Join(w.disk(), "filler") }

// fillDisk leaves no node room for its state.
func (w *world) fillDisk() {
	w.t.Helper()
	f, err := os.Create(w.filler())
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; _, err = f.Write(block) {
	}
	if !errors.Is(err, syscall.ENOSPC) {
		w.t.Errorf("the disk is not full: %v", err)
	}
}

func (w *world) emptyDisk() {
	w.t.Helper()
	if err := os.Remove(w.filler()); err != nil {
		w.t.Error(err)
	}
}

// orderUnsaved gives an order that no disk takes: its giver must hear that.
func (w *world) orderUnsaved(d int, args ...string) {
	w.t.Helper()
	if out, err := w.verb(d, args...); err == nil || !strings.Contains(out, "no space left") {
		w.t.Errorf("%v on a full disk: %v\n%s", args, err, out)
	}
}
