package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The bounds of what docker does.
const (
	imageTime   = 5 * time.Minute // to copy Go and to compile without a cache
	composeTime = 2 * time.Minute // to start or stop all containers on a busy machine
)

// A composed is the project of docker-compose.yml under a name, image, and ports of its own.
type composed struct {
	t       *testing.T
	compose []string // the command
	project string   // name of the project and of its image
	env     []string
	dns     []int // ports on loopback, by director
}

// TestCompose holds what docker-compose.yml says: each client gets its region, and a region that is cut off leaves the
// answers and comes back.
func TestCompose(t *testing.T) {
	if testing.Short() {
		t.Skip("builds an image and starts containers; left out by -short")
	}
	need(t, "docker")
	need(t, "dig")
	t.Parallel() // with TestReloadsAndFlipsUnderLoad, when all that measures is done
	c := newComposed(t)
	c.must(imageTime, append(c.compose, "build")...)
	c.must(composeTime, append(c.compose, "up", "-d")...)
	for i := range regions {
		c.waitAnswer(i, i)
	}

	const cut, next = 0, 1 // next is nearest to the clients of the one that is cut off
	wan, agent, balancer := c.project+"_wan", c.container("agent-"+regions[cut].name), c.container("balancer-"+regions[cut].name)
	c.must(composeTime, "docker", "network", "disconnect", wan, agent)
	c.must(composeTime, "docker", "network", "disconnect", wan, balancer)
	c.waitAnswer(cut, next, cut)
	for i := range regions {
		if i != cut {
			c.waitAnswer(i, i, i)
		}
	}

	c.must(composeTime, "docker", "network", "connect", "--ip", endpoint(cut), wan, balancer)
	c.must(composeTime, "docker", "network", "connect", "--ip", agentAddr(cut), wan, agent)
	c.waitAnswer(cut, cut, next)

	logs := c.must(composeTime, append(c.compose, "logs", "--no-color")...)
	for _, bad := range []string{"panic:", "fatal error:", "permission denied"} {
		if strings.Contains(logs, bad) {
			t.Errorf("the logs have %q", bad)
		}
	}
}

// endpoint is the address of a region's balancer, agentAddr that of its agent.
func endpoint(region int) string  { return fmt.Sprintf("10.53.0.%d", 20+10*region) }
func agentAddr(region int) string { return fmt.Sprintf("10.53.0.%d", 21+10*region) }

func newComposed(t *testing.T) *composed {
	t.Helper()
	compose, err := findCompose()
	if err != nil {
		t.Fatal(err)
	}
	file, err := filepath.Abs("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 2*directors)
	c := &composed{t: t, project: fmt.Sprintf("nearcast-test-%d", os.Getpid()), dns: ports[:directors]}
	c.compose = slices.Clip(slices.Concat(compose, []string{"-p", c.project, "-f", file}))
	c.env = append(os.Environ(), "NEARCAST_IMAGE="+c.project, "GO_IMAGE="+c.goImage())
	for d := range directors {
		c.env = append(c.env, fmt.Sprintf("NEARCAST_DNS%d=%d", d+1, c.dns[d]), fmt.Sprintf("NEARCAST_ADMIN%d=%d", d+1, ports[directors+d]))
	}
	t.Cleanup(c.close)
	c.must(imageTime, "./goimage.sh", c.goImage())
	return c
}

func (c *composed) goImage() string { return c.project + "-go" }

// close leaves nothing of the project behind: containers, networks, volumes, images.
func (c *composed) close() {
	if c.t.Failed() {
		for _, args := range [][]string{{"ps"}, {"logs", "--no-color", "--tail", "40"}} {
			out, err := c.run(composeTime, append(c.compose, args...)...)
			c.t.Logf("%s (%v):\n%s", args[0], err, out)
		}
	}
	for _, args := range [][]string{
		append(c.compose, "down", "-v", "--remove-orphans", "-t", "5"),
		{"docker", "image", "rm", "-f", c.project},
		{"docker", "image", "prune", "-f", "--filter", "label=nearcast.go=" + c.goImage()}, // the build stage
		{"docker", "image", "rm", "-f", c.goImage()},
	} {
		if out, err := c.run(composeTime, args...); err != nil {
			c.t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// run runs a command with the project's environment, for at most so long.
func (c *composed) run(bound time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), bound) // not the test's: closing comes after its end
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = c.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *composed) must(bound time.Duration, args ...string) string {
	c.t.Helper()
	begin := time.Now()
	out, err := c.run(bound, args...)
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, tail([]byte(out), 6000))
	}
	c.t.Logf("%.1f s: %s", time.Since(begin).Seconds(), strings.Join(args, " "))
	return out
}

func (c *composed) container(service string) string {
	c.t.Helper()
	id := strings.TrimSpace(c.must(composeTime, append(c.compose, "ps", "-q", service)...))
	if id == "" {
		c.t.Fatalf("no container of %s", service)
	}
	return id
}

// waitAnswer returns when both directors answer the clients of one region with another; until then nothing but the
// regions of before may be in an answer, and no answer may be empty. With no before, any answer may come first.
func (c *composed) waitAnswer(client, want int, before ...int) {
	c.t.Helper()
	begin := time.Now()
	for d := range directors {
		for _, way := range []string{"+notcp", "+tcp"} {
			answer := ""
			if !within(deadline, func() bool {
				answer = c.dig(d, client, way)
				for _, b := range before {
					if answer != endpoint(want) && answer != endpoint(b) {
						c.t.Fatalf("director %d answers %s with %q, neither %s nor %s", d+1, regions[client].client, answer, endpoint(want), endpoint(b))
					}
				}
				return answer == endpoint(want)
			}) {
				c.t.Fatalf("director %d answers %s with %q after %v, want %s", d+1, regions[client].client, answer, deadline, endpoint(want))
			}
		}
	}
	c.t.Logf("%.1f s: clients of %s are answered with %s", time.Since(begin).Seconds(), regions[client].name, regions[want].name)
}

// dig asks a director as a client of a region, and returns the addresses of the answer, or dig's complaint.
func (c *composed) dig(director, client int, way string) string {
	out, _ := c.run(deadline, "dig", "@127.0.0.1", "-p", fmt.Sprint(c.dns[director]), "www.geo.example.com", "A",
		"+short", "+time=2", "+tries=2", "+subnet="+regions[client].client, way)
	return strings.TrimSpace(out)
}
