package healthmesh

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/procfs"
)

// cpuFirst is what the first reading of the processors spans; each later one spans the time since the one before.
const cpuFirst = 500 * time.Millisecond

// hostGauge measures the host: the share of it that is in use, times the capacity.
func hostGauge(typ string, capacity float64) gauge {
	use := memoryUse(procfs.DefaultMountPoint)
	if typ == loadCPU {
		use = cpuUse(procfs.DefaultMountPoint, cpuFirst)
	}
	return func(ctx context.Context) (float64, error) {
		share, err := use(ctx)
		return share * capacity, err
	}
}

// cpuUse is the share of the processors' time that was not idle since the reading before, of all processors together. Time that
// a hypervisor gave to others is not there to be used, so it counts as in use.
func cpuUse(proc string, first time.Duration) gauge {
	var before procfs.CPUStat
	return func(ctx context.Context) (float64, error) {
		if before == (procfs.CPUStat{}) {
			var err error
			if before, err = cpuTimes(proc); err != nil {
				return 0, err
			}
			if !sleep(ctx, first) {
				return 0, ctx.Err()
			}
		}
		now, err := cpuTimes(proc)
		if err != nil {
			return 0, err
		}
		all, idle := cpuSums(now)
		allBefore, idleBefore := cpuSums(before)
		before = now
		if all <= allBefore {
			return 0, errors.New("no processor time passed since the reading before")
		}
		return min(max(1-(idle-idleBefore)/(all-allBefore), 0), 1), nil
	}
}

func cpuTimes(proc string) (procfs.CPUStat, error) {
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return procfs.CPUStat{}, err
	}
	s, err := fs.Stat()
	return s.CPUTotal, err
}

// cpuSums are the seconds of all kinds and those without work. A guest's time is in the user's already (proc(5)).
func cpuSums(c procfs.CPUStat) (all, idle float64) {
	idle = c.Idle + c.Iowait
	return c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal + idle, idle
}

// memoryUse is the share of the memory that is not available to new work without swapping.
func memoryUse(proc string) gauge {
	return func(context.Context) (float64, error) {
		fs, err := procfs.NewFS(proc)
		if err != nil {
			return 0, err
		}
		m, err := fs.Meminfo()
		switch {
		case err != nil:
			return 0, err
		case m.MemTotal == nil || m.MemAvailable == nil || *m.MemTotal == 0:
			return 0, fmt.Errorf("%s/meminfo has no MemTotal and MemAvailable", proc)
		}
		return 1 - min(float64(*m.MemAvailable)/float64(*m.MemTotal), 1), nil
	}
}
