package healthmesh

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The bounds of a program.
const (
	maxOutput   = 4 << 10                // bytes of output that are kept; the rest is read and dropped
	maxLine     = 200                    // bytes of the first line that are logged
	outputDelay = 100 * time.Millisecond // for output to end after the program: a process that left the group may hold it
)

// exec runs the program in a process group of its own, of which nothing is left when it returns.
func (p *probe) exec(ctx context.Context) (outcome, error) {
	var out head
	cmd := exec.Command(p.check.Command[0], p.check.Command[1:]...)
	cmd.Dir, cmd.Env = "/", []string{
		"PATH=" + os.Getenv("PATH"), "NEARCAST_ENDPOINT=" + p.target.Endpoint,
		"NEARCAST_SERVICE=" + p.target.Service, "NEARCAST_REGION=" + p.target.Region,
	}
	cmd.Stdout, cmd.Stderr = &out, &out // one writer, so one goroutine writes
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = outputDelay
	if err := cmd.Start(); err != nil {
		return outcome{}, unable{err}
	}
	late := !ends(ctx, cmd.Process.Pid)
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the whole group; the number is not another's until the program is waited for
	err := cmd.Wait()
	reap(cmd.Process.Pid)
	o := bad(reasonTimeout, 0)
	if !late {
		if cmd.ProcessState == nil {
			return outcome{}, unable{err}
		}
		o = exited(cmd.ProcessState.Sys().(syscall.WaitStatus))
	}
	o.text = out.line()
	return o, nil
}

// ends says whether the program ended before ctx; it is not yet waited for.
func ends(ctx context.Context, pid int) bool {
	ended := make(chan struct{})
	go func() { // ends with the program, which the caller kills at the latest
		defer close(ended)
		for errors.Is(unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
		}
	}()
	select {
	case <-ended:
		return true
	case <-ctx.Done():
		return false
	}
}

// reap takes what the program had started off the process table, where this process is the first of a container and so
// inherits it. All of it was killed.
func reap(group int) {
	if os.Getpid() != 1 {
		return
	}
	for {
		if _, err := syscall.Wait4(-group, nil, 0, nil); err != nil && err != syscall.EINTR {
			return // no more of them
		}
	}
}

func exited(s syscall.WaitStatus) outcome {
	switch {
	case s.Signaled():
		return bad(reasonExit, 128+uint16(s.Signal()))
	case s.ExitStatus() != 0:
		return bad(reasonExit, uint16(s.ExitStatus()))
	}
	return good(reasonExit, 0)
}

// A head keeps the beginning of what is written to it.
type head struct{ kept []byte }

func (h *head) Write(b []byte) (int, error) {
	h.kept = append(h.kept, b[:min(len(b), maxOutput-len(h.kept))]...)
	return len(b), nil
}

// line is the first line, as text.
func (h *head) line() string {
	line, _, _ := bytes.Cut(h.kept, []byte{'\n'})
	return strings.ToValidUTF8(strings.TrimSpace(string(line[:min(len(line), maxLine)])), "")
}
