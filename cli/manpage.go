package cli

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// This file writes a page for man(1), in the macros of man(7).

// manPage writes one page; it refers to the others.
func manPage(p manualPage, all []manualPage) []byte {
	var b bytes.Buffer
	// Neither a date nor a version: a page changes when its command does.
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"Luna\" \"Luna Manual\"\n", strings.ToUpper(p.name()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(p.name()), roff(p.Short))
	b.WriteString(".SH SYNOPSIS\n")
	manLines(&b, manSynopsis(p))
	b.WriteString(".SH DESCRIPTION\n")
	manText(&b, about(p.Command))
	manOptions(&b, ".SH OPTIONS\n", p.Command)
	if len(p.actions) > 0 {
		b.WriteString(".SH ACTIONS\n")
		for _, c := range p.actions {
			fmt.Fprintf(&b, ".SS %s\n", roff(usageOf(c)))
			manText(&b, about(c))
			manOptions(&b, ".PP\nOptions:\n", c)
			b.WriteString(".PP\nExamples:\n")
			manLines(&b, exampleLines(c))
		}
	} else {
		b.WriteString(".SH EXAMPLES\n")
		manLines(&b, exampleLines(p.Command))
	}
	if !p.HasParent() && p.HasSubCommands() {
		manCommands(&b, all)
		manFacts(&b, "ENVIRONMENT", variables())
		manFacts(&b, "FILES", files())
	}
	if p.HasParent() {
		b.WriteString(".PP\nThe options of every command, variables and files are in\n.BR luna (1).\n")
	}
	manSeeAlso(&b, p, all)
	return b.Bytes()
}

// manSynopsis has a line for each action.
func manSynopsis(p manualPage) string {
	if len(p.actions) == 0 {
		return usageOf(p.Command) + "\n"
	}
	var lines strings.Builder
	for _, c := range p.actions {
		lines.WriteString(usageOf(c) + "\n")
	}
	return lines.String()
}

func manCommands(b *bytes.Buffer, all []manualPage) {
	b.WriteString(".SH OBJECTS AND COMMANDS\n")
	for _, p := range all {
		if p.HasParent() {
			fmt.Fprintf(b, ".TP\n.BR %s (1)\n%s\n", roff(p.name()), roff(p.Short))
		}
	}
}

func manOptions(b *bytes.Buffer, heading string, c *cobra.Command) {
	all := options(c)
	if len(all) > 0 {
		b.WriteString(heading)
	}
	for _, f := range all {
		form, meaning := optionText(f)
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR\n%s\n", roff(form), roff(meaning))
	}
}

func manFacts(b *bytes.Buffer, heading string, facts []fact) {
	fmt.Fprintf(b, ".SH %s\n", heading)
	for _, f := range facts {
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR\n%s\n", roff(f.name), roff(f.meaning))
	}
}

func manSeeAlso(b *bytes.Buffer, p manualPage, all []manualPage) {
	b.WriteString(".SH SEE ALSO\n")
	var others []string
	for _, o := range all {
		if o.name() != p.name() && (!o.HasParent() || o.HasSubCommands() && p.HasSubCommands()) {
			others = append(others, fmt.Sprintf(".BR %s (1)", roff(o.name())))
		}
	}
	b.WriteString(strings.Join(others, ",\n") + "\n")
}

func manText(b *bytes.Buffer, text string) {
	for i, p := range passages(text) {
		switch {
		case p.asIs:
			manLines(b, p.text)
		case i > 0:
			fmt.Fprintf(b, ".PP\n%s\n", roff(p.text))
		default:
			fmt.Fprintf(b, "%s\n", roff(p.text))
		}
	}
}

// manLines writes lines that stand as they are.
func manLines(b *bytes.Buffer, lines string) {
	fmt.Fprintf(b, ".PP\n.nf\n.RS\n%s\n.RE\n.fi\n", roff(lines))
}

// roff writes a text such that groff prints these characters: a '-' that can be
// copied, no macro at the start of a line, and what stands in backquotes bold.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\(rs`, "-", `\-`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`).Replace(strings.TrimRight(text, "\n"))
	parts := strings.Split(text, "`")
	for i := 1; i < len(parts); i += 2 {
		parts[i] = `\fB` + parts[i] + `\fR`
	}
	lines := strings.Split(strings.Join(parts, ""), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
