package lab

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// runScript runs a script in a world where files is all there is, and time costs nothing.
func runScript(t *testing.T, start string, files map[string]string) (x *ipxe, said string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		x = &ipxe{
			settings: map[string]string{"net0/mac": "52:54:00:00:00:01", "platform": "pcbios", "empty": ""},
			dhcp:     func(context.Context) error { return nil },
			out:      &out,
			fetch: func(_ context.Context, address, as string, _ time.Duration) (image, error) {
				text, ok := files[strings.SplitN(address, "?", 2)[0]]
				if !ok {
					return image{}, errors.New("404 not found")
				}
				return image{path: "/" + as, script: text}, nil
			},
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err = x.run(ctx, start)
		said = out.String()
	})
	return x, said, err
}

func TestScripts(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		says   string // what is echoed
		err    error  // nil is any error if fails is set
		fails  bool
	}{
		"values":            {script: "set a 1 2\nset b ${a}\necho ${b} ${net0/mac:hexhyp} ${none}.", says: "1 2 52-54-00-00-00-01 .\n"},
		"nested":            {script: "set k v\nset v w\necho ${${k}}", says: "w\n"},
		"uristring":         {script: "set a b c&d\necho ${a:uristring}", says: "b+c%26d\n"},
		"or":                {script: "iseq 1 2 || echo no\niseq 1 1 || echo never", says: "no\n"},
		"and, or":           {script: "iseq 1 1 && echo yes || echo never\niseq 1 2 && echo never || echo no", says: "yes\nno\n"},
		"or nothing":        {script: "iseq 1 2 ||\necho on", says: "on\n"},
		"failing line":      {script: "iseq 1 2\necho never", fails: true},
		"unknown command":   {script: "fly\necho never", fails: true},
		"isset":             {script: "isset ${empty} || echo not\nisset ${platform} && echo set", says: "not\nset\n"},
		"counting":          {script: "set i:int32 0\n:again\ninc i\niseq ${i} 3 || goto again\necho ${i}", says: "3\n"},
		"circles":           {script: ":again\ngoto again", fails: true},
		"comment":           {script: "# echo never\necho a # b", says: "a\n"},
		"continued line":    {script: "iseq 1 2 || \\\necho no", says: "no\n"},
		"goto nowhere":      {script: "goto x", fails: true},
		"menu":              {script: "menu M\nitem --key a one One\nitem two Two\nchoose --default two --timeout 100 c\necho ${c}", says: "two\n"},
		"nobody there":      {script: "menu M\nitem one\nchoose c || echo none\nread x || echo none", says: "none\nnone\n"},
		"exit":              {script: "exit 1\necho never", err: errExit},
		"reboot":            {script: "sleep 3\nreboot", err: errReboot},
		"boot nothing":      {script: "boot", fails: true},
		"boot":              {script: "kernel k a=1\nimgargs k b=2\nboot || echo never", err: errBoot, says: "http://h/d/k... ok\n"},
		"chain and back":    {script: "chain sub\necho back", says: "http://h/d/sub... ok\nsub of h\nback\n"},
		"chain in place":    {script: "chain --replace sub || echo never\necho never", err: errEnd, says: "http://h/d/sub... ok\nsub of h\n"},
		"chain to a binary": {script: "chain k || echo no", says: "http://h/d/k... ok\nno\n"},
	} {
		t.Run(name, func(t *testing.T) {
			_, said, err := runScript(t, "http://h/d/start", map[string]string{
				"http://h/d/start": "#!ipxe\n" + test.script + "\n",
				"http://h/d/sub":   "#!ipxe\necho sub of h\n",
				"http://h/d/k":     "MZ",
			})
			if said != test.says {
				t.Errorf("says %q, want %q", said, test.says)
			}
			if (err != nil) != (test.fails || test.err != nil) || (test.err != nil && !errors.Is(err, test.err)) {
				t.Errorf("error: %v", err)
			}
		})
	}
}

// The scripts that our heads write, with the first heads of each list dead: the menu's time runs
// out, the list is walked, and the kernel is started with the arguments for it.
func TestScriptsOfHeads(t *testing.T) {
	sample := func(name string) string {
		text, err := os.ReadFile("../../boot/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const alive = "http://10.30.0.252:7050"
	files := map[string]string{
		alive + "/menu":                          sample("menu-known.ipxe"),
		alive + "/luna":                          sample("node001.ipxe"), // whatever the query
		alive + "/boot/0123456789abcdef/vmlinuz": "MZ",
		alive + "/boot/0123456789abcdef/initrd":  "070701",
	}
	x, said, err := runScript(t, alive+"/menu", files)
	if !errors.Is(err, errBoot) {
		t.Fatalf("%v\n%s", err, said)
	}
	kernel, err := x.find(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"luna.node=node001", "luna.token=TOKEN", "initrd=initrd.img"} {
		if !strings.Contains(" "+kernel.args+" ", " "+want+" ") {
			t.Errorf("the command line has no %s: %s", want, kernel.args)
		}
	}
	if len(x.images) != 2 || x.images[1].name != "initrd.img" {
		t.Errorf("images: %+v", x.images)
	}
	if !strings.Contains(said, "http://10.30.0.251:7050/boot/0123456789abcdef/vmlinuz... 404") {
		t.Errorf("the dead head was not tried first: %s", said)
	}
}
