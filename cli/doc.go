// Package cli is every command of luna that talks to a head, one file per noun.
//
// The commands are a plain cobra tree: a noun, a verb, options. Luna 1.2 had a
// grammar of its own (unique prefixes of options, -bn, -i IF IP, -o in two
// senses); grammar.go rewrites such a command line before the tree sees it, so
// that no command knows of it. What a command does is a function of a
// [session]; it asks the head through api.Client, prints the answer on stdout
// and everything else on stderr, and returns an error. exit.go alone turns
// errors into 1.2's words and exit codes.
//
// A command reads no inventory file and knows no head but the one it asks: any
// head will do, over the local socket as root or over TLS with a credential.
package cli
