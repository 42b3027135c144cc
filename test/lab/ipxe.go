package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ipxe follows scripts as iPXE does: as far as boot scripts go, and as a machine does before which
// nobody sits. What it cannot do fails, as it does in an iPXE that was built without it.
type ipxe struct {
	settings map[string]string
	// fetch gets a file: into memory if it is a script, else to disk. It gives up when nothing
	// has come for so long.
	fetch func(ctx context.Context, address, as string, stall time.Duration) (image, error)
	dhcp  func(ctx context.Context) error // asks again
	out   io.Writer                       // the screen

	base    *url.URL // of the running script, to which addresses are relative
	script  []string // its lines
	next    int      // the line to run next
	images  []image
	choices []string // of the menu
}

// image is a file that iPXE has fetched.
type image struct {
	name   string
	path   string // on disk
	script string // its text, if it is a script
	args   string
	kernel bool
}

// How a script may leave, beside its end and an error.
var (
	errBoot   = errors.New("the kernel is started")
	errExit   = errors.New("exit")
	errReboot = errors.New("reboot")
	errEnd    = errors.New("the script that replaced it has ended")
)

// maxLines bounds the lines that a machine runs before it is taken to go round in circles.
const maxLines = 10_000

// run fetches a script and runs it, and the scripts that it chains to. Its error is errBoot when
// a kernel is to be started.
func (x *ipxe) run(ctx context.Context, address string) error {
	img, err := x.fetch(ctx, address, "", time.Minute)
	if err != nil {
		return err
	}
	return x.interpret(ctx, address, img.script)
}

// interpret runs one script to its end.
func (x *ipxe) interpret(ctx context.Context, address, text string) error {
	if !strings.HasPrefix(text, "#!ipxe") {
		return fmt.Errorf("%s: not an iPXE script", address)
	}
	base, err := url.Parse(address)
	if err != nil {
		return err
	}
	x.base, x.next = base, 0
	x.script = strings.Split(strings.ReplaceAll(text, "\\\n", ""), "\n")
	for range maxLines {
		if x.next >= len(x.script) {
			return nil
		}
		line := x.script[x.next]
		x.next++
		if err := x.line(ctx, line); err != nil {
			return fmt.Errorf("%s: %q: %w", address, strings.Join(strings.Fields(line), " "), err)
		}
	}
	return fmt.Errorf("%s: %d lines were run, and no kernel: it goes round in circles", address, maxLines)
}

// line runs commands that are joined by || and &&, from left to right. A line that fails as a
// whole is an error, and ends the script.
func (x *ipxe) line(ctx context.Context, line string) error {
	words := strings.Fields(x.expand(line))
	if len(words) == 0 || strings.HasPrefix(words[0], ":") { // a label
		return nil
	}
	if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "#") }); i >= 0 {
		words = words[:i]
	}
	var err error
	for do, rest := true, words; ; {
		end := slices.IndexFunc(rest, func(w string) bool { return w == "||" || w == "&&" })
		command := rest
		if end >= 0 {
			command = rest[:end]
		}
		if do {
			if err = x.command(ctx, command); leaves(ctx, err) {
				return err
			}
		}
		if end < 0 {
			return err
		}
		do = (err == nil) == (rest[end] == "&&")
		rest = rest[end+1:]
	}
}

// leaves tells whether an error is not for the script to deal with.
func leaves(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, errBoot) || errors.Is(err, errExit) ||
		errors.Is(err, errReboot) || errors.Is(err, errEnd)
}

// command runs one command. Nothing is a command that succeeds.
func (x *ipxe) command(ctx context.Context, words []string) error {
	if len(words) == 0 {
		return nil
	}
	options, args := split(words[1:])
	switch words[0] {
	case "kernel", "imgselect", "initrd", "imgfetch", "module":
		return x.load(ctx, words[0] == "kernel" || words[0] == "imgselect", options, args)
	case "chain":
		return x.chain(ctx, options, args)
	case "imgargs":
		img, err := x.find(args)
		if err == nil {
			img.args = strings.Join(args[1:], " ")
		}
		return err
	case "imgfree":
		x.images = slices.DeleteFunc(x.images, func(i image) bool { return len(args) == 0 || i.name == args[0] })
		return nil
	case "boot":
		img, err := x.find(args)
		if err != nil {
			return err
		}
		for i := range x.images {
			x.images[i].kernel = &x.images[i] == img
		}
		return errBoot
	case "exit":
		return errExit
	case "reboot":
		return errReboot
	case "goto":
		return x.jump(args)
	case "echo":
		fmt.Fprintln(x.out, strings.Join(args, " "))
		return nil
	case "sleep":
		seconds, err := number(args, 0)
		if err != nil {
			return err
		}
		return wait(ctx, time.Duration(seconds)*time.Second)
	case "dhcp", "ifconf":
		return x.dhcp(ctx)
	case "ifopen", "iflinkwait", "sync":
		return nil
	case "menu", "item", "choose":
		return x.menu(ctx, words[0], options, args)
	}
	return x.setting(words[0], args)
}

// setting runs the commands on variables. "set name:int32 0" and the like keep a string here.
func (x *ipxe) setting(command string, args []string) error {
	if len(args) == 0 {
		if command == "isset" { // of an empty variable nothing is left
			return errors.New("it is not set")
		}
		return fmt.Errorf("%s: this machine cannot do that", command)
	}
	name, _, _ := strings.Cut(args[0], ":")
	switch command {
	case "set":
		x.settings[name] = strings.Join(args[1:], " ")
	case "clear":
		delete(x.settings, name)
	case "inc":
		by := 1
		if len(args) > 1 {
			var err error
			if by, err = number(args, 1); err != nil {
				return err
			}
		}
		was, _ := strconv.Atoi(x.settings[name]) // nothing counts as 0
		x.settings[name] = strconv.Itoa(was + by)
	case "isset":
	case "iseq":
		if len(args) != 2 || args[0] != args[1] {
			return errors.New("they are not equal")
		}
	default: // sanboot, shell, config, read, prompt, params, ...
		return fmt.Errorf("%s: this machine cannot do that", command)
	}
	return nil
}

// load fetches a file: "kernel [--name N] [--timeout ms] URI [argument...]".
func (x *ipxe) load(ctx context.Context, kernel bool, options map[string]string, args []string) error {
	address, err := x.address(args)
	if err != nil {
		return err
	}
	name := options["name"]
	if name == "" {
		name = address.Path[strings.LastIndexByte(address.Path, '/')+1:]
	}
	img, err := x.fetch(ctx, address.String(), name, stallTime(options))
	if err != nil {
		fmt.Fprintf(x.out, "%s... %v\n", address, err)
		return err
	}
	fmt.Fprintf(x.out, "%s... ok\n", address)
	img.name, img.args, img.kernel = name, strings.Join(args[1:], " "), kernel
	x.images = slices.DeleteFunc(x.images, func(i image) bool { return i.name == name })
	x.images = append(x.images, img)
	return nil
}

// chain runs another script, in place of this one if --replace is given.
func (x *ipxe) chain(ctx context.Context, options map[string]string, args []string) error {
	address, err := x.address(args)
	if err != nil {
		return err
	}
	img, err := x.fetch(ctx, address.String(), "", stallTime(options))
	if err != nil {
		fmt.Fprintf(x.out, "%s... %v\n", address, err)
		return err
	}
	fmt.Fprintf(x.out, "%s... ok\n", address)
	base, script, next := x.base, x.script, x.next
	err = x.interpret(ctx, address.String(), img.script)
	if leaves(ctx, err) {
		return err
	}
	if _, replace := options["replace"]; replace {
		return errors.Join(errEnd, err) // to what it replaced nothing comes back, not even to a || there
	}
	x.base, x.script, x.next = base, script, next
	return err
}

// menu keeps a menu's items, and lets the time for a choice run out.
func (x *ipxe) menu(ctx context.Context, command string, options map[string]string, args []string) error {
	switch {
	case command == "menu":
		x.choices = nil
	case command == "item":
		if len(args) > 0 {
			x.choices = append(x.choices, args[0])
		}
	case len(args) == 0 || len(x.choices) == 0:
		return errors.New("there is no menu to choose from")
	default:
		milliseconds, err := strconv.Atoi(options["timeout"])
		if err != nil || milliseconds == 0 {
			return errors.New("nobody is there to choose")
		}
		if err := wait(ctx, time.Duration(milliseconds)*time.Millisecond); err != nil {
			return err
		}
		choice := options["default"]
		if choice == "" {
			choice = x.choices[0]
		}
		x.settings[args[0]] = choice
	}
	return nil
}

// jump goes on after a label.
func (x *ipxe) jump(args []string) error {
	for i, line := range x.script {
		if len(args) > 0 && strings.TrimSpace(line) == ":"+args[0] {
			x.next = i + 1
			return nil
		}
	}
	return fmt.Errorf("there is no label %q", strings.Join(args, " "))
}

// find is the image of a name, or the last one that was fetched as a kernel.
func (x *ipxe) find(args []string) (*image, error) {
	for i := range x.images {
		img := &x.images[len(x.images)-1-i]
		if (len(args) == 0 && img.kernel) || (len(args) > 0 && img.name == args[0]) {
			return img, nil
		}
	}
	return nil, fmt.Errorf("no image %q was loaded", strings.Join(args, " "))
}

// address resolves the first argument.
func (x *ipxe) address(args []string) (*url.URL, error) {
	if len(args) == 0 {
		return nil, errors.New("no address was given")
	}
	return x.base.Parse(args[0])
}

var variable = regexp.MustCompile(`\$\{([^${}]*)\}`)

// expand puts the values of ${name} and ${name:format} in their place, the inner ones first.
func (x *ipxe) expand(line string) string {
	for variable.MatchString(line) {
		line = variable.ReplaceAllStringFunc(line, func(found string) string {
			name, format, _ := strings.Cut(found[2:len(found)-1], ":")
			value := x.settings[name]
			switch format {
			case "uristring":
				return url.QueryEscape(value)
			case "hexhyp":
				return strings.ReplaceAll(value, ":", "-")
			case "hexraw":
				return strings.ReplaceAll(value, ":", "")
			}
			return value
		})
	}
	return line
}

// valued are the options that take a word; all others of these commands are flags.
var valued = []string{"name", "timeout", "default", "key"}

// split separates the options in front from the arguments: "--name x", "--name=x", "-n".
func split(words []string) (options map[string]string, args []string) {
	options = map[string]string{}
	for len(words) > 0 && strings.HasPrefix(words[0], "-") && len(words[0]) > 1 {
		name, value, given := strings.Cut(strings.TrimLeft(words[0], "-"), "=")
		words = words[1:]
		if !given && slices.Contains(valued, name) && len(words) > 0 {
			value, words = words[0], words[1:]
		}
		options[name] = value
	}
	return options, words
}

// stallTime is how long a download may stand still: --timeout, in milliseconds.
func stallTime(options map[string]string) time.Duration {
	if milliseconds, err := strconv.Atoi(options["timeout"]); err == nil && milliseconds > 0 {
		return time.Duration(milliseconds) * time.Millisecond
	}
	return time.Minute
}

func number(args []string, i int) (int, error) {
	if len(args) <= i {
		return 0, errors.New("a number is missing")
	}
	return strconv.Atoi(args[i])
}

// wait lets time pass, as the script wants it.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
