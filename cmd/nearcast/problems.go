package main

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A problem is one thing that is wrong with a configuration.
type problem struct {
	file     string
	line     int    // 0 if the file as a whole is meant
	key      string // path, such as "zones[0].services[1].ttl"; "" for the file as a whole
	value    any
	accepted string
	form     bool // the value is not of the key's type
}

func (p problem) String() string {
	at := p.file
	if p.line > 0 {
		at += ":" + strconv.Itoa(p.line)
	}
	if p.key != "" {
		at += ": " + p.key
	}
	return fmt.Sprintf("%s: %s; accepted: %s", at, show(p.value), p.accepted)
}

// show is a value as an operator wrote it; what would be invisible is quoted.
func show(v any) string {
	s := fmt.Sprint(v)
	if v == nil {
		return "nothing"
	}
	if strings.TrimSpace(s) != s || s == "" {
		return strconv.Quote(s)
	}
	return s
}

// problems is all that is wrong with a configuration: an error of one line each.
type problems []problem

func (p problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// A document is a configuration file as it was written, to tell where a key stands.
type document struct {
	file     string
	root     *yaml.Node // nil for an empty file
	problems problems
	unread   bool // the form is so wrong that nothing else can be told
}

// report takes a problem at a key path. Of a value that is not of the form, nothing else is worth telling.
func (d *document) report(key string, value any, accepted string) {
	for _, p := range d.problems {
		if p.key == key && p.form {
			return
		}
	}
	d.problems = append(d.problems, problem{d.file, d.line(key), key, value, accepted, false})
}

// err is all problems, nil if there are none.
func (d *document) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	return d.problems
}

// line is where the key stands, or what of its path there is.
func (d *document) line(key string) int {
	n, line := d.root, 0
	if n != nil {
		line = n.Line
	}
	for _, part := range splitKey(key) {
		n, line = child(n, part, line)
		if n == nil {
			break
		}
	}
	return line
}

// child is the value of a part of a key path in n, nil if it is absent, and its line.
func child(n *yaml.Node, part string, line int) (*yaml.Node, int) {
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil {
		return nil, line
	}
	if i, err := strconv.Atoi(part); err == nil && n.Kind == yaml.SequenceNode {
		if i < len(n.Content) {
			return n.Content[i], n.Content[i].Line
		}
		return nil, line
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if strings.EqualFold(n.Content[i].Value, part) {
				return n.Content[i+1], n.Content[i].Line
			}
		}
	}
	return nil, line
}

// splitKey splits "a.b[3].c" into a, b, 3, c.
func splitKey(key string) []string {
	return strings.FieldsFunc(key, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}

func keyOf(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }
