package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process 1 of a node: prepares the container, then keeps the node's components running. A component that ends, for
// whatever reason, is started again; that is also how one restarts it: `kill` the process whose id is in
// /run/meridian/NAME.pid. The commands are all in the configuration, rendered by the cluster program.

type configuration struct {
	// Run one after another before any component.
	Setup []command `json:"setup"`
	// Started together; each waits for what it needs by itself.
	Components []component `json:"components"`
	LogFolder  string      `json:"logFolder"`
}

type command struct {
	Argv    []string `json:"argv"`
	MayFail bool     `json:"mayFail"`
}

type component struct {
	Name string   `json:"name"`
	Argv []string `json:"argv"`
	// Polled until it answers 200 before each start. Empty: don't wait.
	WaitForURL string `json:"waitForUrl"`
	CAFile     string `json:"caFile"`
	// Run before each start, again and again until each succeeds: what it needs of a component started beside it.
	Prepare [][]string `json:"prepare"`
}

const (
	pidFolder    = "/run/meridian"
	maxBackoff   = 10 * time.Second
	stopGrace    = 8 * time.Second
	maxLogBytes  = 64 << 20
	cgroupV2Root = "/sys/fs/cgroup"
)

func runInit(arguments []string) error {
	if len(arguments) != 1 {
		return errors.New("usage: meridian-node init CONFIG")
	}
	raw, err := os.ReadFile(arguments[0])
	if err != nil {
		return err
	}
	var config configuration
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&config); err != nil {
		return fmt.Errorf("%s: %w", arguments[0], err)
	}
	for _, folder := range []string{pidFolder, config.LogFolder} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	cgroup, err := ownCgroup()
	if err != nil {
		return err
	}
	for _, step := range config.Setup {
		if out, err := exec.Command(step.Argv[0], step.Argv[1:]...).CombinedOutput(); err != nil {
			if !step.MayFail {
				return fmt.Errorf("%s: %w: %s", strings.Join(step.Argv, " "), err, out)
			}
			fmt.Printf("init: %s: %v: %s (goes on)\n", strings.Join(step.Argv, " "), err, bytes.TrimSpace(out))
		}
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	family := &children{running: map[int]chan syscall.WaitStatus{}}
	go family.reap()
	var all sync.WaitGroup
	for _, one := range config.Components {
		for i, argument := range one.Argv {
			one.Argv[i] = strings.ReplaceAll(argument, "${NODE_CGROUP}", cgroup)
		}
		all.Add(1)
		go func() {
			defer all.Done()
			family.keepRunning(ctx, one, config.LogFolder)
		}()
	}
	all.Wait()
	return nil
}

// ownCgroup is where the container's processes are accounted; the kubelet gets it as its cgroup root, so that freezing
// the container freezes its pods. On cgroup v2 a group that has children may hold no processes itself ("no internal
// processes", kernel documentation, cgroup-v2): this process moves to a child first.
func ownCgroup() (string, error) {
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[1] == "cpu" || strings.HasPrefix(parts[1], "cpu,") || strings.HasSuffix(parts[1], ",cpu") {
			return parts[2], nil
		}
	}
	path, found := strings.CutPrefix(strings.TrimSpace(string(raw)), "0::")
	if !found {
		return "", fmt.Errorf("no cpu controller in /proc/self/cgroup: %s", raw)
	}
	return path, leaveCgroupRoot(filepath.Join(cgroupV2Root, path))
}

func leaveCgroupRoot(folder string) error {
	child := filepath.Join(folder, "init")
	if err := os.MkdirAll(child, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(child, "cgroup.procs"), []byte("0"), 0o644); err != nil {
		return err
	}
	controllers, err := os.ReadFile(filepath.Join(folder, "cgroup.controllers"))
	if err != nil {
		return err
	}
	enable := ""
	for _, controller := range strings.Fields(string(controllers)) {
		enable += " +" + controller
	}
	return os.WriteFile(filepath.Join(folder, "cgroup.subtree_control"), []byte(strings.TrimSpace(enable)), 0o644)
}

// children waits for every process that ends: ours, and the orphans that process 1 inherits (containerd's shims among
// them). os/exec's own Wait can't be used beside it: whichever asks first takes the status.
type children struct {
	mu      sync.Mutex
	running map[int]chan syscall.WaitStatus
}

func (family *children) reap() {
	ended := make(chan os.Signal, 64)
	signal.Notify(ended, syscall.SIGCHLD)
	// The tick picks up what ended before this was listening.
	tick := time.NewTicker(time.Second)
	for {
		select {
		case <-ended:
		case <-tick.C:
		}
		family.collect()
	}
}

func (family *children) collect() {
	// Held across the wait, so that a child that ends at once is found in the map by the time it is collected.
	family.mu.Lock()
	defer family.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if pid <= 0 || err != nil {
			return
		}
		if done, ours := family.running[pid]; ours {
			delete(family.running, pid)
			done <- status
		}
	}
}

func (family *children) start(argv []string, output *os.File) (int, chan syscall.WaitStatus, error) {
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return 0, nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, nil, err
	}
	defer null.Close()
	family.mu.Lock()
	defer family.mu.Unlock()
	pid, err := syscall.ForkExec(program, argv, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{null.Fd(), output.Fd(), output.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, nil, err
	}
	done := make(chan syscall.WaitStatus, 1)
	family.running[pid] = done
	return pid, done, nil
}

func (family *children) run(argv []string, output *os.File) error {
	_, done, err := family.start(argv, output)
	if err != nil {
		return err
	}
	if status := <-done; status.ExitStatus() != 0 {
		return fmt.Errorf("%s: exit status %d", strings.Join(argv, " "), status.ExitStatus())
	}
	return nil
}

func (family *children) keepRunning(ctx context.Context, one component, logFolder string) {
	logPath := filepath.Join(logFolder, one.Name+".log")
	pidPath := filepath.Join(pidFolder, one.Name+".pid")
	backoff := time.Duration(0)
	for ctx.Err() == nil {
		log, err := openLog(logPath)
		if err != nil {
			fmt.Printf("init: %s: %v\n", one.Name, err)
			return
		}
		startedAt := time.Now()
		if family.waitUntilReady(ctx, one, log) {
			pid, done, err := family.start(one.Argv, log)
			if err != nil {
				fmt.Fprintf(log, "init: %v\n", err)
			} else {
				fmt.Printf("init: %s runs as %d\n", one.Name, pid)
				_ = os.WriteFile(pidPath, fmt.Appendf(nil, "%d\n", pid), 0o644)
				ended := wait(ctx, pid, done)
				_ = os.Remove(pidPath)
				fmt.Printf("init: %s ended (%s)\n", one.Name, describe(ended))
			}
		}
		_ = log.Close()
		if time.Since(startedAt) > 30*time.Second {
			backoff = 0
		}
		sleep(ctx, backoff)
		backoff = min(max(2*backoff, 250*time.Millisecond), maxBackoff)
	}
}

func wait(ctx context.Context, pid int, done chan syscall.WaitStatus) syscall.WaitStatus {
	select {
	case status := <-done:
		return status
	case <-ctx.Done():
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	select {
	case status := <-done:
		return status
	case <-time.After(stopGrace):
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	return <-done
}

func (family *children) waitUntilReady(ctx context.Context, one component, log *os.File) bool {
	if one.WaitForURL != "" {
		client, err := httpsClient(one.CAFile)
		if err != nil {
			fmt.Fprintf(log, "init: %v\n", err)
			return false
		}
		for !answers(ctx, client, one.WaitForURL) {
			if ctx.Err() != nil {
				return false
			}
			sleep(ctx, 100*time.Millisecond)
		}
	}
	for _, argv := range one.Prepare {
		for {
			err := family.run(argv, log)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return false
			}
			sleep(ctx, 250*time.Millisecond)
		}
	}
	return true
}

func httpsClient(caFile string) (*http.Client, error) {
	raw, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s: no certificate in it", caFile)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	return &http.Client{Transport: transport, Timeout: 2 * time.Second}, nil
}

func answers(ctx context.Context, client *http.Client, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// openLog appends, and starts afresh when the log has grown past its bound: the previous one is kept.
func openLog(path string) (*os.File, error) {
	if stat, err := os.Stat(path); err == nil && stat.Size() > maxLogBytes {
		_ = os.Rename(path, path+".1")
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "signal " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

func sleep(ctx context.Context, duration time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(duration):
	}
}
