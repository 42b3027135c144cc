package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/inventory"
)

// The exit codes, those of 1.2.
const (
	exitOK      = 0
	exitRefused = 1
	exitUsage   = 2
	exitBad     = 255 // an object is missing, exists already, or a value is bad
	exitDiffers = 3   // luna diff --exit-code: there is a difference
	// exitInterrupted is what shells give for a command that Ctrl-C ended.
	exitInterrupted = 130
)

// failure is an error of a command, not of how it was called.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// exitError ends a command with a code of its own. Without an error everything
// has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d: %v", e.code, e.err) }
func (e *exitError) Unwrap() error { return e.err }

// Exit gives an error with which [Run] ends with that code, after it has told the
// error.
func Exit(code int, err error) error { return &exitError{code, err} }

// usageError is a command's own complaint about how it was called.
type usageError string

func (e usageError) Error() string { return string(e) }

func usagef(format string, args ...any) error { return usageError(fmt.Sprintf(format, args...)) }

// refusef is a refusal that needs no head: exit code 1.
func refusef(object, name, format string, args ...any) error {
	return inventory.Errorf(inventory.KindRefused, object, name, format, args...)
}

// Run does what the command line says and gives the exit code. An error is
// told on the tree's stderr.
func Run(ctx context.Context, root *cobra.Command, args []string) int {
	cmd, rewritten, err := translate(root, args)
	if err == nil {
		root.SetArgs(rewritten)
		if cmd, err = root.ExecuteContextC(ctx); cmd == nil {
			cmd = root
		}
	}
	if own, ok := errors.AsType[*exitError](err); ok {
		if own.err != nil {
			report(cmd, own.err)
		}
		return own.code
	}
	switch {
	case err == nil:
		return exitOK
	case context.Cause(ctx) != nil:
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: interrupted\n", cmd.CommandPath())
		return exitInterrupted
	}
	var failed *failure
	if _, usage := errors.AsType[usageError](err); usage || !errors.As(err, &failed) {
		fmt.Fprintf(cmd.ErrOrStderr(), "usage: %s\n%s: error: %v\n%s -h tells more\n", cmd.UseLine(), cmd.CommandPath(), err, cmd.CommandPath())
		return exitUsage
	}
	return report(cmd, failed.err)
}

// report tells a refusal in the shape of 1.2's log lines and gives its code.
func report(cmd *cobra.Command, err error) int {
	e := inventory.AsError(err)
	name := logger(cmd, e.Object)
	for _, line := range append(strings.Split(e.Text, "\n"), e.Users...) {
		fmt.Fprintf(cmd.ErrOrStderr(), "ERROR:%s:%s\n", name, line)
	}
	return exitCode(e.Kind)
}

// exitCode is the one place where a kind of refusal becomes an exit code.
func exitCode(k inventory.Kind) int {
	switch k {
	case inventory.KindNotFound, inventory.KindExists, inventory.KindInvalid:
		return exitBad
	}
	return exitRefused
}

// logger names who speaks: the type of the object, or the command's noun.
func logger(cmd *cobra.Command, object string) string {
	if object == "" {
		for object = cmd.Name(); cmd.HasParent() && cmd.Parent().HasParent(); {
			cmd = cmd.Parent()
			object = cmd.Name()
		}
	}
	return "luna." + object
}
