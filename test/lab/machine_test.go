package lab_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
)

func hardware(t *testing.T, mac string) net.HardwareAddr {
	t.Helper()
	address, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// treeAsInitrd makes an initrd that is a whole tree with some files over it, and finds the kernel.
func treeAsInitrd(t *testing.T, root, dir string, files map[string]string) (kernel, initrd string) {
	t.Helper()
	kernels, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("kernels in the tree: %v, %v", kernels, err)
	}
	over := t.TempDir()
	for path, text := range files {
		path = filepath.Join(over, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// cpio is the tree's own (dracut asks for it): the machine outside has none. The second
	// archive follows the first, as the kernel allows.
	initrd = filepath.Join(dir, "initrd")
	cmd := exec.Command("sh", "-c", strings.Join([]string{
		`set -e`,
		`pack() { "$tree"/lib64/ld-linux-x86-64.so.2 --library-path "$tree"/usr/lib/x86_64-linux-gnu "$tree"/usr/bin/cpio --quiet -0 -o -H newc | zstd -q -1 -T2; }`,
		`cd "$tree"; find . -xdev ! -path './boot/*' -print0 | pack >"$initrd"`,
		`cd "$over"; find . -print0 | pack >>"$initrd"`,
	}, "\n"))
	cmd.Env = append(os.Environ(), "tree="+root, "over="+over, "initrd="+initrd)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make an initrd: %v: %s", err, out)
	}
	return kernels[0], initrd
}

// Machines of each firmware come to a script that is served by HTTP, by the way that each knows.
func TestMachinesReachTheirScript(t *testing.T) {
	l := labtest.New(t, "machines")
	ctx := labtest.Context(t, 5*time.Minute)
	var again sync.Map // who has been refused once
	bootServer(t, ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch mac := r.URL.Query().Get("mac"); mac {
		case "":
			fmt.Fprint(w, "#!ipxe\nchain http://10.141.0.250:7050/boot.ipxe?mac=${net0/mac}\n")
			return
		case "52:54:00:00:00:01", "52:54:00:00:00:03": // whose firmware shall have to come again
			if _, before := again.LoadOrStore(mac, true); !before {
				http.Error(w, "not yet", http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprint(w, "#!ipxe\necho LAB-SCRIPT ${net0/mac} ${net0/ip} ${platform}\n")
	}))
	for _, test := range []struct {
		firmware lab.Firmware
		mac      string
		says     string
	}{
		{lab.BIOS, "52:54:00:00:00:01", "pcbios"},
		{lab.UEFI, "52:54:00:00:00:02", "efi"},
		{lab.UEFIHTTP, "52:54:00:00:00:03", "efi"},
	} {
		t.Run(test.firmware.String(), func(t *testing.T) {
			t.Parallel()
			name := "node" + test.mac[len(test.mac)-1:]
			start := time.Now()
			m, err := l.Machine(ctx, lab.MachineConfig{Name: name, MAC: hardware(t, test.mac), Firmware: test.firmware, MemoryMiB: 512, DiskMiB: 64})
			if err != nil {
				t.Fatal(err)
			}
			line, err := m.WaitFor(ctx, regexp.MustCompile(`LAB-SCRIPT \S+ \S+ `+test.says))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s after %.1f s, %.1f s of CPU", line, time.Since(start).Seconds(), m.CPU().Seconds())
			if !strings.Contains(line, test.mac+" 10.141.1.") {
				t.Errorf("the script saw %q", line)
			}
			if _, err := l.Machine(ctx, lab.MachineConfig{Name: name}); err == nil {
				t.Error("the machine was switched on twice")
			}
			m.Kill()
			if m.Running() {
				t.Error("runs after Kill")
			}
			if _, err := m.WaitFor(ctx, regexp.MustCompile("never printed")); err == nil || !strings.Contains(err.Error(), "it is off") {
				t.Errorf("WaitFor on a machine that is off: %v", err)
			}
		})
	}
}
