package lab_test

import (
	"context"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/clustervision/luna/test/lab"
)

// bootServer is a head that is not ours: dnsmasq for DHCP, TFTP and router advertisements on the
// host "server", 10.141.0.250, and an HTTP server on its port 7050. It offers addresses of
// 10.141.0.0/16 and the script /boot.ipxe.
func bootServer(t *testing.T, ctx context.Context, l *lab.Lab, handler http.Handler) *lab.Host {
	t.Helper()
	server, err := l.Host(ctx, "server", netip.MustParsePrefix("10.141.0.250/16"), netip.MustParsePrefix("fd10:141::1/64"))
	if err != nil {
		t.Fatal(err)
	}
	tftp := t.TempDir()
	for _, loader := range []string{"/usr/lib/ipxe/undionly.kpxe", "/usr/lib/ipxe/snponly.efi"} {
		text, err := os.ReadFile(loader)
		if err != nil {
			t.Fatalf("%v: run make deps", err)
		}
		if err := os.WriteFile(filepath.Join(tftp, filepath.Base(loader)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err = server.Start("dnsmasq", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--log-dhcp",
		"--user=root", "--port=0", "--interface=eth0", "--pid-file=", "--no-ping", "--dhcp-authoritative",
		"--dhcp-leasefile="+filepath.Join(l.Dir(), "leases"),
		"--dhcp-range=10.141.1.1,10.141.1.99,255.255.0.0", "--dhcp-option=option:router,10.141.0.250",
		// Without an advertisement iPXE waits for one after each DHCP exchange.
		"--enable-ra", "--dhcp-range=fd10:141::,ra-only,64", "--ra-param=eth0,10,30",
		"--enable-tftp", "--tftp-root="+tftp,
		"--dhcp-userclass=set:ipxe,iPXE", "--dhcp-match=set:efi,option:client-arch,7", "--dhcp-match=set:efihttp,option:client-arch,16",
		"--dhcp-option-force=tag:efihttp,60,HTTPClient",
		"--dhcp-boot=tag:ipxe,http://10.141.0.250:7050/boot.ipxe",
		"--dhcp-boot=tag:!ipxe,tag:efi,snponly.efi,server,10.141.0.250",
		"--dhcp-boot=tag:!ipxe,tag:efihttp,http://10.141.0.250:7050/snponly.efi",
		"--dhcp-boot=tag:!ipxe,tag:!efi,tag:!efihttp,undionly.kpxe,server,10.141.0.250")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := server.Listen(":7050")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.HandleFunc("/snponly.efi", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(tftp, "snponly.efi"))
	})
	web := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = web.Serve(listener)
	}()
	t.Cleanup(func() {
		web.Close()
		<-served
	})
	return server
}
