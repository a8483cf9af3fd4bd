package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

const (
	scriptPorts = 6  // free ports that a script has, as $P1 to $P6
	blockPorts  = 10 // and ports in a row, $B1 to $B10
	firstBlock  = 20000
	blocks      = 1000 // below the ports that systems give out by themselves
)

// freeBlock finds ports in a row that are free.
func freeBlock(t *testing.T) []int {
	t.Helper()
	for range 100 {
		first := firstBlock + blockPorts*rand.IntN(blocks)
		var ports []int
		for p := first; p < first+blockPorts && isFree(p); p++ {
			ports = append(ports, p)
		}
		if len(ports) == blockPorts {
			return ports
		}
	}
	t.Fatalf("no %d free ports in a row", blockPorts)
	return nil
}

// isFree tells if a port is free for TCP and UDP, on all addresses of loopback.
func isFree(port int) bool {
	l, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
	if err != nil {
		return false
	}
	return u.Close() == nil
}

// TestScripts runs the scripts in testdata/script against the real binary and the real dig. Beside testscript's own
// commands they have:
//
//	ready HOST:PORT            wait until the director with this admin address is ready
//	signal NAME                send a signal to all processes in the background: HUP, TERM, INT or KILL
//	until PATTERN PROGRAM ...  run a program again and again until its output matches; "GET URL" and "POST URL" are programs
func TestScripts(t *testing.T) {
	need(t, "dig")
	path, err := nearcast()
	if err != nil {
		t.Fatal(err)
	}
	example, err := filepath.Abs("../deploy/example")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(path)+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("EXAMPLE", example)
			for i, p := range freePorts(t, scriptPorts) {
				env.Setenv(fmt.Sprintf("P%d", i+1), fmt.Sprint(p))
			}
			for i, p := range freeBlock(t) {
				env.Setenv(fmt.Sprintf("B%d", i+1), fmt.Sprint(p))
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"ready": cmdReady, "signal": cmdSignal, "until": cmdUntil},
	})
}

func cmdReady(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ready HOST:PORT")
	}
	if !within(deadline, func() bool {
		resp, err := http.Get("http://" + args[0] + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}) {
		ts.Fatalf("no director is ready at %s after %v", args[0], deadline)
	}
}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}
	if neg || len(args) != 1 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal HUP|TERM|INT|KILL")
	}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(signals[args[0]]))
	}
}

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN PROGRAM ...")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var last []byte
	if !within(deadline, func() bool {
		last = output(ts, args[1:])
		return want.Match(last)
	}) {
		ts.Fatalf("%s: no %q after %v:\n%s", strings.Join(args[1:], " "), args[0], deadline, last)
	}
}

// output is what a program says, or the body of an answer; an error is output, too.
func output(ts *testscript.TestScript, args []string) []byte {
	if args[0] != http.MethodGet && args[0] != http.MethodPost {
		program := args[0]
		var err error
		if program == "nearcast" {
			program, err = nearcast()
		}
		ts.Check(err)
		cmd := exec.Command(program, args[1:]...)
		cmd.Dir = ts.Getenv("WORK")
		out, _ := cmd.CombinedOutput()
		return out
	}
	req, err := http.NewRequest(args[0], args[1], nil)
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return []byte(err.Error())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return []byte(err.Error())
	}
	return body
}
