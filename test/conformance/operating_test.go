package conformance

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// TestOperating: the commands of docs/operating.md that are typed on a mesh run as they stand, from
// top to bottom, typed on h1 of three heads. Before some of them something happens to the mesh.
// What the page says of packages and of Ansible is run by the tests of these.
func TestOperating(t *testing.T) {
	p := &page{T: t}
	p.mesh("operating")
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operating.md"))
	p.desk.must(err)
	lines := 0
	_, body, _ := strings.Cut(string(text), "\n## The agent\n")
	for line := range strings.Lines(body) {
		code, isCode := strings.CutPrefix(line, "    ")
		if cron, isCron := strings.CutPrefix(line, "0 3 * * * root "); isCron {
			code, isCode = strings.ReplaceAll(cron, `\%`, "%"), true
		}
		if !isCode {
			continue
		}
		lines++
		p.happen(code)
		start := time.Now()
		if r := p.desk.run("", "cd $D\n"+p.here.Replace(code)); r.code != 0 {
			t.Errorf("%s: exit code %d: %s", strings.TrimSpace(code), r.code, r.errs)
		}
		p.after(code)
		t.Logf("%5.1f s  %s", time.Since(start).Seconds(), strings.TrimSpace(code))
	}
	if lines < 18 {
		t.Errorf("the page has %d commands", lines)
	}
}

// page is somebody who types what the page says, and the world around.
type page struct {
	*testing.T
	site *site.Site
	desk *desk
	here *strings.Replacer // puts the names of this place into a line
}

// mesh makes three heads with a site of 500 nodes, and sits down at the first.
func (p *page) mesh(name string) {
	l := labtest.New(p.T, name)
	var err error
	if p.site, err = site.New(p.Context(), l, programs, 3); err != nil {
		p.Fatal(err)
	}
	if err = p.site.Mesh(p.Context()); err == nil {
		err = p.site.Settle(p.Context())
	}
	if err != nil {
		p.Fatal(err)
	}
	p.sit(p.site.Heads[0])
	p.desk.ok(
		"luna network add -n cluster -N 10.30.0.0 -P 16",
		"luna osimage add -n compute -p $IMG",
		"luna group add -n compute -o compute -N cluster",
		"luna group add -n gpu -o compute -N cluster",
		"luna node add -g compute -n 'node[001-500]'",
		"luna node change 'node[001-003]' --tag rack3",
		"echo name,mac,BOOTIF >$D/nodes.csv",
		"echo login1,52:54:00:00:00:99,10.30.7.1 >>$D/nodes.csv",
		"luna cluster credential typist >$D/admin.pem",
		"echo sesame >$D/luna.secret && mkdir $D/backups $D/bin",
	)
}

// sit opens a desk at a head, where `ssh h2 reboot` ends the agent of h2.
func (p *page) sit(h *site.Head) {
	p.desk = deskAt(p.T, p.site.Lab, h).with(p.T)
	p.desk.env = append(p.desk.env, "PATH="+p.desk.path("D")+"/bin:"+programs+":"+os.Getenv("PATH"))
	p.here = strings.NewReplacer(
		"/run/luna/luna.sock", h.Socket(), "HEAD", h.Addr.String(), "/root/luna.secret", "luna.secret", "/var/backups", "backups",
		"luna-1.backup", "luna-$(date +%u).backup",
	)
}

// happen is what happens before the line is typed.
func (p *page) happen(line string) {
	switch line = strings.TrimSpace(line); {
	case strings.Contains(line, "ssh h2 reboot"):
		p.desk.ok(fmt.Sprintf("printf '#!/bin/sh\\nkill %d\\n' >$D/bin/ssh && chmod +x $D/bin/ssh", p.site.Head("h2").Agent.Pid()))
	case strings.HasPrefix(line, "luna head replace h2"):
		p.mesh("replacing")
		p.site.Head("h2").Agent.Kill9()
		p.desk.ok("until luna head list | grep -q 'h2 .* failed'; do sleep 0.1; done")
	case strings.HasPrefix(line, "luna cluster recover"):
		p.mesh("recovery")
		p.site.Head("h2").Agent.Kill9()
		p.site.Head("h3").Agent.Kill9()
	case strings.HasPrefix(line, "luna cluster restore"):
		from := p.desk.path("D")
		h, err := p.site.Add(p.Context(), "h1again", netip.MustParseAddr("10.30.255.240"))
		p.desk.must(err)
		p.site.Head("h1").Agent.Kill9()
		p.desk.must(h.Start(p.Context()))
		p.sit(h)
		p.desk.ok("cp -r " + from + "/* $D/")
	}
}

// after is what happens then.
func (p *page) after(line string) {
	if h := p.site.Head("h2"); strings.Contains(line, "ssh h2 reboot") {
		p.desk.must(site.Until(p.Context(), time.Minute, "h2 goes down", func() error {
			if h.Agent.Running() {
				return errors.New("its agent runs")
			}
			return nil
		}))
		p.desk.must(h.Start(p.Context()))
		p.desk.must(p.site.Settle(p.Context()))
	}
}
