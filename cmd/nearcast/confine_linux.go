package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// What a confined process may do to files, where the kernel has Landlock: neither make a link, a device or a socket anywhere,
// nor run a program, unless that is what it is for.
const (
	mayRead  landlock.AccessFSSet = ll.AccessFSReadFile | ll.AccessFSReadDir
	mayWrite landlock.AccessFSSet = mayRead | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRemoveFile | ll.AccessFSMakeReg | ll.AccessFSMakeDir
	mayRun   landlock.AccessFSSet = mayRead | ll.AccessFSExecute
	mayFill  landlock.AccessFSSet = ll.AccessFSReadFile | ll.AccessFSWriteFile
)

// confine gives up what a node does not need: root, if it is to be another user; the capabilities but those to bind, until
// dropCapabilities; and, where the kernel has Landlock, to run programs unless keep says so, and to write anywhere but in these folders. They are made
// if they are not there. It comes before anything in folders of that user is opened, which may be links that lead elsewhere.
func confine(name string, writable []string, keep rights) error {
	if err := dropBounds(); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if name != "" {
		if err := become(name, writable); err != nil {
			return fmt.Errorf("user %s: %w", name, err)
		}
	}
	if err := keepCapabilities(append(keep.capabilities(), cap.NET_BIND_SERVICE, cap.NET_ADMIN)...); err != nil { // ports below 1024, large read buffers
		return fmt.Errorf("capabilities: %w", err)
	}
	if name != "" && os.Geteuid() != 0 && unix.Setuid(0) == nil {
		return errors.New("the process could become root again")
	}
	if name == "" {
		name = strconv.Itoa(os.Geteuid())
	}
	for _, dir := range writable {
		if err := usable(dir, name); err != nil {
			return err
		}
	}
	rules := []landlock.Rule{landlock.PathAccess(mayRead, "/"), landlock.PathAccess(mayWrite, writable...)}
	if keep.programs { // these write what nobody reads, as shells do
		rules = append(rules, landlock.PathAccess(mayRun, "/"), landlock.PathAccess(mayFill, "/dev/null"))
	}
	if err := landlock.V5.BestEffort().RestrictPaths(rules...); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	return nil
}

// capabilities are what these rights need for as long as the process runs: raw sockets, where those for pings are not allowed.
func (r rights) capabilities() []cap.Value {
	if r.echoes {
		return []cap.Value{cap.NET_RAW}
	}
	return nil
}

// dropCapabilities leaves the process none of them but for keep, once its sockets are bound.
func dropCapabilities(keep rights) error {
	if err := keepCapabilities(keep.capabilities()...); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// keepCapabilities leaves the process none but these of those that it has (capabilities(7)); where it is root, also the one
// to write to folders that are another user's.
func keepCapabilities(keep ...cap.Value) error {
	if os.Geteuid() == 0 {
		keep = append(keep, cap.DAC_OVERRIDE)
	}
	now, left := cap.GetProc(), cap.NewSet()
	for _, c := range keep {
		may, err := now.GetFlag(cap.Permitted, c)
		if err != nil {
			return err
		}
		if err := errors.Join(left.SetFlag(cap.Permitted, may, c), left.SetFlag(cap.Effective, may, c)); err != nil {
			return err
		}
	}
	return left.SetProc()
}

// dropBounds sees to it that no program could give the process a capability, where it has the right to.
func dropBounds() error {
	if may, err := cap.GetProc().GetFlag(cap.Effective, cap.SETPCAP); err != nil || !may {
		return err
	}
	for c := cap.Value(0); c < cap.MaxBits(); c++ {
		if err := cap.DropBound(c); err != nil {
			return err
		}
	}
	return nil
}

// become makes the process another user, for good, with that user's groups; its capabilities stay until they are dropped.
func become(name string, folders []string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	all, err := u.GroupIds()
	if err != nil {
		return err
	}
	ids, err := numbers(append([]string{u.Uid, u.Gid}, all...))
	if err != nil {
		return err
	}
	uid, gid, groups := ids[0], ids[1], ids[2:]
	if os.Geteuid() == uid {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("only root can become another user, and this is user %d", os.Geteuid())
	}
	for _, dir := range folders {
		if err := provide(dir, uid, gid); err != nil {
			return fmt.Errorf("folder %s: %w", dir, err)
		}
	}
	if err := cap.SetGroups(gid, groups...); err != nil {
		return err
	}
	return cap.SetUID(uid)
}

func numbers(texts []string) (all []int, err error) {
	for _, text := range texts {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// provide has root make a folder for a user, and the folders above it for itself, where they are missing. It goes down from
// folder to folder, and no further than to one where others than root may put something, or to a link: what is below could
// be anything. There the user makes the folder.
func provide(dir string, uid, gid int) error {
	at, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { unix.Close(at) }()
	parts := strings.Split(strings.Trim(dir, "/"), "/")
	for i, name := range parts {
		if safe, err := rootsOwn(at); err != nil || !safe {
			return err
		}
		next, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		switch last := i == len(parts)-1; {
		case errors.Is(err, unix.ENOENT) && last:
			next, err = makeFolder(at, name, 0o700, uid, gid)
		case errors.Is(err, unix.ENOENT):
			next, err = makeFolder(at, name, 0o755, 0, 0)
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			return nil
		}
		if err != nil {
			return err
		}
		unix.Close(at)
		at = next
	}
	return nil
}

// rootsOwn tells if nobody but root can put something into a folder in place of what root puts there.
func rootsOwn(folder int) (bool, error) {
	var s unix.Stat_t
	if err := unix.Fstat(folder, &s); err != nil {
		return false, err
	}
	return s.Uid == 0 && (s.Mode&0o022 == 0 || s.Mode&unix.S_ISVTX != 0), nil
}

// makeFolder makes a folder in another for a user, and opens it.
func makeFolder(in int, name string, mode uint32, uid, gid int) (int, error) {
	if err := unix.Mkdirat(in, name, mode); err != nil {
		return -1, err
	}
	made, err := unix.Openat(in, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return made, unix.Fchown(made, uid, gid)
}

// usable makes a folder if it is missing, and says what the process, by now the user it will be, cannot do there.
func usable(dir, name string) error {
	if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), os.MkdirAll(dir, 0o700)); err != nil {
		return fmt.Errorf("user %s: %w", name, err)
	}
	const hint = "; if it is of a start as another user: chown -Rh %s: %s"
	if err := unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("user %s cannot write to %s, or not pass the folders above it: %w"+hint, name, dir, err, name, dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		if err := unix.Access(file, unix.R_OK); e.Type().IsRegular() && errors.Is(err, unix.EACCES) {
			return fmt.Errorf("user %s cannot read %s: %w"+hint, name, file, err, name, dir)
		}
	}
	return nil
}
