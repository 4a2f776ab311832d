package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"
)

// A router that holds every packet for a fixed time: latency on kernels without `tc netem`. It reads a TUN device
// (layer 3, no extra header: kernel documentation, networking/tuntap) and writes each packet back to the same device
// later, unchanged and in order. Routing is the caller's: towards the device for packets that come from elsewhere, on
// by the main table for those that come out of it. When this process ends, the device and its routes go with it.

const (
	tunPath       = "/dev/net/tun"
	ioctlTunSetFF = 0x400454ca // TUNSETIFF
	flagTun       = 0x0001     // IFF_TUN
	flagNoPI      = 0x1000     // IFF_NO_PI
	maxPacket     = 65536
	// What is in flight at most; a packet past that is dropped, as a real line with a full queue does. At 1400 bytes
	// and 100 ms it carries 900 Mbit/s.
	maxInFlight = 8192
)

type heldPacket struct {
	dueAt time.Time
	bytes []byte
}

func runDelay(arguments []string) error {
	flags := flag.NewFlagSet("delay", flag.ContinueOnError)
	device := flags.String("device", "", "name of the TUN device to make")
	oneWay := flags.Duration("one-way", 0, "how long each packet is held")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *device == "" || *oneWay <= 0 {
		return errors.New("delay: --device and a positive --one-way are required")
	}
	tun, err := openTun(*device)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(pidFolder, 0o755); err != nil {
		return err
	}
	pidPath := filepath.Join(pidFolder, *device+".pid")
	if err := os.WriteFile(pidPath, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o644); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-stop
		_ = os.Remove(pidPath)
		os.Exit(0)
	}()

	held := make(chan heldPacket, maxInFlight)
	go release(tun, held)
	buffer := make([]byte, maxPacket)
	for {
		n, err := syscall.Read(tun, buffer)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			// The device is down until the caller brings it up.
			if err == syscall.EIO || err == syscall.EBADFD {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return fmt.Errorf("read %s: %w", *device, err)
		}
		packet := heldPacket{dueAt: time.Now().Add(*oneWay), bytes: append([]byte(nil), buffer[:n]...)}
		select {
		case held <- packet:
		default:
		}
	}
}

// One delay for all keeps the queue in order of release: a channel is enough.
func release(tun int, held chan heldPacket) {
	for packet := range held {
		time.Sleep(time.Until(packet.dueAt))
		_, _ = syscall.Write(tun, packet.bytes)
	}
}

func openTun(name string) (int, error) {
	if err := os.MkdirAll(filepath.Dir(tunPath), 0o755); err != nil {
		return 0, err
	}
	// Major 10, minor 200: kernel documentation, admin-guide/devices.
	if err := syscall.Mknod(tunPath, syscall.S_IFCHR|0o600, 10<<8|200); err != nil && !errors.Is(err, os.ErrExist) {
		return 0, fmt.Errorf("mknod %s: %w", tunPath, err)
	}
	tun, err := syscall.Open(tunPath, os.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", tunPath, err)
	}
	var request struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:15], name)
	request.flags = flagTun | flagNoPI
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(tun), ioctlTunSetFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return 0, fmt.Errorf("create device %s: %w", name, errno)
	}
	return tun, nil
}
