package cli

import (
	"errors"
	"strconv"

	"github.com/spf13/pflag"
)

// This file holds the options of changes: they set a field of a command where
// they stand on the command line, and leave it nil where they do not.

// textOption is a text, as it stands. An empty one is a value too.
type textOption struct{ to **string }

func (textOption) String() string { return "" }
func (textOption) Type() string   { return "string" }

// Set takes any text.
func (o textOption) Set(v string) error {
	*o.to = &v
	return nil
}

// numberOption is a whole number. Which numbers will do is the head's to say.
type numberOption struct{ to **int }

func (numberOption) String() string { return "" }
func (numberOption) Type() string   { return "int" }

// Set takes a number.
func (o numberOption) Set(v string) error {
	n, err := strconv.Atoi(v)
	if err != nil {
		return errors.New("it is no whole number")
	}
	*o.to = &n
	return nil
}

var (
	_ pflag.Value = textOption{}
	_ pflag.Value = numberOption{}
)
