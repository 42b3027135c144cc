package lab_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
)

// Simulated nodes of each firmware boot from servers that are not ours: what they send is right if
// dnsmasq tells them apart, and what they read if they end with kernel, initrd and arguments.
func TestNodesBoot(t *testing.T) {
	l := labtest.New(t, "nodes")
	ctx := labtest.Context(t, 2*time.Minute)
	bootServer(t, ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/boot.ipxe":
			fmt.Fprint(w, "#!ipxe\nset head http://10.141.0.99:7050\n"+ // where nobody is
				"kernel --timeout 2000 ${head}/vmlinuz || kernel --name k vmlinuz\n"+
				"imgargs k root=luna luna.mac=${net0/mac} luna.ip=${ip} luna.platform=${platform}\n"+
				"initrd --name initrd.img initrd\nboot k")
		case "/vmlinuz":
			fmt.Fprint(w, "a kernel")
		case "/initrd":
			fmt.Fprint(w, "an initrd")
		default:
			http.NotFound(w, r)
		}
	}))
	for _, test := range []struct {
		firmware         lab.Firmware
		loader, platform string
	}{
		{lab.BIOS, "undionly.kpxe", "pcbios"},
		{lab.UEFI, "snponly.efi", "efi"},
		{lab.UEFIHTTP, "http://10.141.0.250:7050/snponly.efi", "efi"},
	} {
		t.Run(test.firmware.String(), func(t *testing.T) {
			t.Parallel()
			n, err := l.Node(ctx, lab.NodeConfig{Name: "sim" + fmt.Sprint(int(test.firmware)), Firmware: test.firmware, RateMbit: 100})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			booted, err := n.Boot(ctx)
			if err != nil {
				t.Fatalf("%v\n%s", err, n.Console())
			}
			t.Logf("in %.2f s", time.Since(start).Seconds())
			address := booted.Lease.Address
			if address.Bits() != 16 || !strings.HasPrefix(address.String(), "10.141.1.") || booted.Lease.Router.String() != "10.141.0.250" {
				t.Errorf("lease: %+v", booted.Lease)
			}
			if booted.Loader != test.loader || booted.LoaderSize < 50_000 {
				t.Errorf("loader %s of %d bytes, want %s", booted.Loader, booted.LoaderSize, test.loader)
			}
			want := fmt.Sprintf("root=luna luna.mac=%s luna.ip=%s luna.platform=%s", n.MAC(), address.Addr(), test.platform)
			if booted.CommandLine != want {
				t.Errorf("command line %q, want %q", booted.CommandLine, want)
			}
			if text, err := os.ReadFile(booted.Kernel); err != nil || string(text) != "a kernel" {
				t.Errorf("kernel: %q, %v", text, err)
			}
			if len(booted.Initrds) != 1 {
				t.Fatalf("initrds: %v", booted.Initrds)
			}
			if text, err := os.ReadFile(booted.Initrds[0]); err != nil || string(text) != "an initrd" {
				t.Errorf("initrd: %q, %v", text, err)
			}
			// In place of the installer, a program that shows what it would be given.
			p, err := n.Install(booted, "echo", "/target", "--once")
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(p.Log())
			words := strings.Fields(string(text))
			if err != nil || len(words) != 6 || words[0] != "--cmdline" || words[2] != "--root" || words[4] != "--no-network" {
				t.Fatalf("the installer was called with %q, %v", text, err)
			}
			if text, err := os.ReadFile(words[1]); err != nil || strings.TrimSpace(string(text)) != want {
				t.Errorf("the installer's command line is %q, %v", text, err)
			}
		})
	}
}

// Like firmware, a node begins again until somebody answers.
func TestNodeTriesAgain(t *testing.T) {
	l := labtest.New(t, "again")
	ctx := labtest.Context(t, 2*time.Minute)
	n, err := l.Node(ctx, lab.NodeConfig{Name: "sim"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := n.Boot(ctx)
		done <- err
	}()
	eventually(t, "the node asks", func() bool { return strings.Contains(n.Console(), "starts") })
	bootServer(t, ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(n.Console(), "boot failed") {
			fmt.Fprint(w, "#!ipxe\nkernel k\nboot")
			return
		}
		http.Error(w, "not yet", http.StatusServiceUnavailable)
	}))
	if err := <-done; err != nil {
		t.Errorf("%v\n%s", err, n.Console())
	}
}
