package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a change may go on before the files are looked at: editors and copiers write in several steps.
const settle = 200 * time.Millisecond

// A watcher tells when to read files again: when they change, and on SIGHUP. It watches their folders, since files are
// replaced rather than written, and looks at the files themselves when something happens there, since links may lead elsewhere.
type watcher struct {
	notify  *fsnotify.Watcher
	hup     chan os.Signal
	changed chan string
	watch   chan watched
	stop    context.CancelFunc
	done    chan struct{} // closed when run ends
	log     *slog.Logger
}

// watched are files and their stamp as they were read; "" if that is not known.
type watched struct {
	files []string
	seen  string
}

// watchFiles watches until Close for what differs from seen, the stamp of the files as they were read.
func watchFiles(files []string, seen string, log *slog.Logger) (*watcher, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("files cannot be watched: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &watcher{
		notify: n, hup: make(chan os.Signal, 1), changed: make(chan string, 1), watch: make(chan watched, 1),
		stop: stop, done: make(chan struct{}), log: log,
	}
	signal.Notify(w.hup, syscall.SIGHUP)
	w.folders(files)
	go w.run(ctx, files, seen)
	return w, nil
}

// Close ends the watching.
func (w *watcher) Close() {
	w.stop()
	<-w.done
}

// Changed has a reason to read the files again, if one came up since it was last received from.
func (w *watcher) Changed() <-chan string { return w.changed }

// Watch replaces the files that are watched, and the stamp that they are compared with, unless that is "".
func (w *watcher) Watch(files []string, seen string) {
	select {
	case <-w.watch: // an older list that was not taken yet
	default:
	}
	w.watch <- watched{files, seen}
}

// run compares with the stamp from before the files were read last: what is written while they are read is seen, too.
func (w *watcher) run(ctx context.Context, files []string, stamp string) {
	defer close(w.done)
	defer signal.Stop(w.hup)
	defer w.notify.Close()
	look := time.After(settle) // nil unless something may have happened
	for {
		select {
		case <-ctx.Done():
			return
		case next := <-w.watch:
			files = next.files
			if next.seen != "" {
				stamp = next.seen
			}
			w.folders(files)
			if look == nil {
				look = time.After(settle) // they may have changed since they were read
			}
		case <-w.notify.Events:
			if look == nil {
				look = time.After(settle)
			}
		case err := <-w.notify.Errors:
			w.log.Warn("a change of the configuration's files may have been missed", "error", err)
		case <-look:
			look = nil
			if now := stampFiles(files); now != stamp {
				stamp = now
				w.tell("a change of a file")
			}
		case <-w.hup:
			stamp = stampFiles(files)
			w.tell("SIGHUP")
		}
	}
}

func (w *watcher) tell(reason string) {
	select {
	case w.changed <- reason:
	default: // one that was not taken yet will do
	}
}

// folders makes the watched folders those of the files.
func (w *watcher) folders(files []string) {
	wanted := map[string]bool{}
	for _, f := range files {
		wanted[filepath.Dir(f)] = true
	}
	for _, dir := range w.notify.WatchList() {
		if !wanted[dir] {
			_ = w.notify.Remove(dir) // gone already
		}
		delete(wanted, dir)
	}
	for dir := range wanted {
		if err := w.notify.Add(dir); err != nil {
			w.log.Warn("a folder cannot be watched: changes in it need a SIGHUP", "folder", dir, "error", err)
		}
	}
}
