package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Programs written in Go read the clock from the kernel's page, past every library, so that no preloaded one can change it, and the
// machine's own clock is not this test's to set. So nearcast is built with a package time in which the wall clock is set off by what
// a file says, and the monotonic clock is as it was. All of nearcast reads the wall clock there.

// clocked builds nearcast so, once, and returns its path. The file is clock, beside the node's configuration.
var clocked = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	std := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	text, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		return "", err
	}
	const reads = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(text), reads) != 1 {
		return "", fmt.Errorf("%s/time.go reads the clock in another way", std)
	}
	verbs, err := filepath.Abs("../cmd/nearcast")
	if err != nil {
		return "", err
	}
	overlay := map[string]string{}
	for path, text := range map[string]string{
		filepath.Join(std, "time.go"):    strings.Replace(string(text), reads, reads+"\tsec += Off.Load()\n", 1),
		filepath.Join(std, "off.go"):     "package time\n\nimport \"sync/atomic\"\n\n// Off is by how many seconds the wall clock is set off.\nvar Off atomic.Int64\n",
		filepath.Join(verbs, "clock.go"): clockSource,
	} {
		overlay[path] = filepath.Join(bin, "overlay-"+filepath.Base(path))
		if err := os.WriteFile(overlay[path], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	text, err = json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return "", err
	}
	file := filepath.Join(bin, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", err
	}
	return build("nearcast-clocked", "-overlay", file)
})

const clockSource = `package main

import (
	"os"
	"strconv"
	"time"
)

func init() {
	read := func() {
		text, err := os.ReadFile(os.Getenv("NEARCAST_CLOCK"))
		if off, bad := strconv.ParseInt(string(text), 10, 64); err == nil && bad == nil {
			time.Off.Store(off)
		}
	}
	read()
	go func() {
		for ; ; time.Sleep(10 * time.Millisecond) {
			read()
		}
	}()
}
`

const (
	farOff = 400 * 24 * time.Hour
	tookUp = 100 * time.Millisecond // for the file to be read
)

// setOff sets the wall clocks of nodes with one off, at once.
func (w *world) setOff(by time.Duration, names ...string) {
	w.t.Helper()
	for _, name := range names {
		file := w.clock(name)
		err := os.WriteFile(file+".tmp", fmt.Append(nil, int(by.Seconds())), 0o600)
		if err == nil {
			err = os.Rename(file+".tmp", file)
		}
		if err != nil {
			w.t.Error(err)
		}
	}
	time.Sleep(tookUp)
}

func (w *world) clock(name string) string { return filepath.Join(w.path(name), "clock") }

// isOff fails the test if a node's log has no line of the year that its clock was set to.
func (w *world) isOff(name string, by time.Duration) {
	w.t.Helper()
	text, err := os.ReadFile(w.path(name + ".log"))
	if year := time.Now().Add(by).UTC().Format("time=2006"); err != nil || !strings.Contains(string(text), year) {
		w.t.Errorf("%s never thought that it was %s: %v", name, year, err)
	}
}

// clockFaults are of a world whose nodes have clocks that can be set off.
var clockFaults = []fault{
	keeps(boundDeath+extra, "the wall clocks of a director and an agent jump ahead, and back",
		func(w *world) { w.setOff(farOff, directorName(1), agentName(apSouth, 0)) },
		func(w *world) { w.setOff(0, directorName(1), agentName(apSouth, 0)) }),
	keeps(boundDeath+extra, "they jump back, and ahead",
		func(w *world) { w.setOff(-farOff, directorName(1), agentName(apSouth, 0)) },
		func(w *world) { w.setOff(0, directorName(1), agentName(apSouth, 0)) }),
	takes(saEast, boundDrain, "a region is drained where the clock is ahead, and taken back where it is not",
		func(w *world) {
			w.setOff(farOff, directorName(1))
			w.order(1, "drain", "sa-east")
		},
		func(w *world) {
			w.order(0, "undrain", "sa-east")
			w.isOff(directorName(1), farOff)
			w.setOff(0, directorName(1))
		}),
	takes(euWest, boundDrain, "a region is drained for an hour, then all clocks jump ahead",
		func(w *world) {
			w.order(0, "drain", "eu-west", "--for", "1h")
			w.setOff(farOff, w.nodes()...)
		},
		func(w *world) { w.setOff(0, w.nodes()...); w.order(1, "undrain", "eu-west") }),
	{name: "a region is drained for an hour, a director starts again with its clock far ahead", region: saEast, out: boundDrain, stays: boundHeal, mute: 1 + 1,
		before: func(w *world) {
			w.order(1, "drain", "sa-east", "--for", "1h")
			w.until("no director answers with it", func() bool { return w.ask(0, saEast).region != saEast && w.ask(1, saEast).region != saEast })
		},
		begin: func(w *world) {
			w.stop(directorName(1), syscall.SIGKILL)
			w.setOff(farOff, directorName(1))
			w.startDirector(1)
		},
		end: func(w *world) {
			w.order(1, "undrain", "sa-east")
			w.isOff(directorName(1), farOff)
			w.setOff(0, directorName(1))
		}},
	takes(apSouth, boundDeath, "an agent is killed, and started again with its clock far back",
		func(w *world) { w.stop(agentName(apSouth, 0), syscall.SIGKILL) },
		func(w *world) {
			w.setOff(-farOff, agentName(apSouth, 0))
			w.startAgent(apSouth, 0)
		}),
}
