package healthmesh

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/icmp"
)

// echo checks an endpoint by ICMP.
func echo(endpoint string, timeout time.Duration) outcome {
	check := Check{Type: checkICMP, Timeout: timeout}.withDefaults()
	return newProbe(Target{Endpoint: endpoint}, check).run(context.Background())
}

func TestEchoes(t *testing.T) {
	for _, endpoint := range []string{"127.0.0.1", "127.0.7.9", "::1", "localhost"} {
		o := echo(endpoint, patience)
		if o.state == Unknown || endpoint == "::1" && o.why.code == reasonUnreachable {
			t.Logf("%s: skipped, this machine does not let it: %v %s", endpoint, o.why, o.text)
			continue
		}
		if o.state != Up || o.why.String() != "echo" {
			t.Errorf("%s: %v for %v", endpoint, o.state, o.why)
		}
	}
	if o := echo("name.invalid", patience); o.state == Up {
		t.Errorf("a name that is none: %v for %v", o.state, o.why)
	}
}

// Raw sockets see everything: only the reply to this echo counts, from the address that was asked.
func TestEchoesAreTold(t *testing.T) {
	conn, raw, err := pinging4.open()
	if err != nil {
		t.Skip(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	other := &icmp.Echo{ID: 1, Seq: 1, Data: []byte("of another check")}
	done := make(chan outcome)
	go func() { done <- echo("127.0.0.1", patience) }() // its echo and reply pass by
	if err := pinging4.await(conn, []byte{127, 0, 0, 1}, other, raw); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the reply to another's echo was taken: %v", err)
	}
	if o := <-done; o.state != Up {
		t.Errorf("%v for %v", o.state, o.why)
	}
}

// In a network of its own, by sockets for pings alone and by none: the test runs itself again there.
func TestEchoesByRights(t *testing.T) {
	if mode := os.Getenv("NEARCAST_ECHOES"); mode != "" {
		for _, endpoint := range []string{"127.0.0.1", "::1"} {
			o := echo(endpoint, patience)
			t.Logf("outcome %s %v %s", endpoint, o.state, o.text)
		}
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for group, want := range map[string]string{"0 2147483647": "up", "1 0": "unknown"} {
		script := "ip link set lo up && echo " + group + " > /proc/sys/net/ipv4/ping_group_range && exec setpriv --bounding-set -net_raw --inh-caps -net_raw " + self + " -test.v -test.run=^TestEchoesByRights$"
		cmd := exec.Command("unshare", "-n", "sh", "-c", script)
		cmd.Env = append(os.Environ(), "NEARCAST_ECHOES=1")
		out, err := cmd.CombinedOutput()
		if err != nil && !strings.Contains(string(out), "outcome") {
			t.Skipf("no network of its own to be had: %v %s", err, out)
		}
		for _, endpoint := range []string{"127.0.0.1", "::1"} {
			if !strings.Contains(string(out), "outcome "+endpoint+" "+want) {
				t.Errorf("ping_group_range %s: %s is not %s:\n%s", group, endpoint, want, out)
			}
			if want == "unknown" && !strings.Contains(string(out), "ping_group_range") {
				t.Errorf("the error does not say what is needed:\n%s", out)
			}
		}
	}
}
