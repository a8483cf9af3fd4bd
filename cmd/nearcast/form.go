package main

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// match reports what of a document is not of the form that a type gives: keys that are unknown or stand
// twice, and values of another type. path is where n stands.
func (d *document) match(n *yaml.Node, t reflect.Type, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	optional := t.Kind() == reflect.Pointer // then 0 is not the same as nothing
	if optional {
		t = t.Elem()
	}
	switch {
	case n.Tag == "!!null": // as if the key were not there
	case t == reflect.TypeFor[time.Duration]():
		if v, err := time.ParseDuration(n.Value); err != nil || v <= 0 || n.Tag != "!!str" {
			d.wrong(n, path, "a duration above 0 such as 1s, 500ms or 2h")
		}
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		if err := reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
			d.wrong(n, path, err.Error())
		}
	case t.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		d.matchKeys(n, fieldsOf(t), path)
	case t.Kind() == reflect.Struct:
		d.unread = d.unread || n == d.root
		d.wrong(n, path, "a mapping of "+strings.Join(slices.Sorted(maps.Keys(fieldsOf(t))), ", "))
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for i, c := range n.Content {
			d.match(c, t.Elem(), keyOf(path, i))
		}
	case t == reflect.TypeFor[[]string]() && n.Tag == "!!str": // one stands for a list of one
	case t.Kind() == reflect.Slice:
		d.wrong(n, path, "a list")
	case t.Kind() == reflect.String && n.Tag != "!!str":
		d.wrong(n, path, "text; numbers and true or false as text are quoted")
	case t.Kind() == reflect.Int && optional && n.Tag != "!!int":
		d.wrong(n, path, "a whole number")
	case t.Kind() == reflect.Int && !optional && (n.Tag != "!!int" || n.Value == "0"): // left out, it is the default
		d.wrong(n, path, "a whole number above 0")
	case t.Kind() == reflect.Float64 && n.Tag != "!!int" && n.Tag != "!!float":
		d.wrong(n, path, "a number")
	}
}

func (d *document) matchKeys(n *yaml.Node, fields map[string]reflect.Type, path string) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		name := strings.ToLower(key.Value)
		t, known := fields[name]
		first, again := seen[name]
		seen[name] = key.Line
		switch {
		case again:
			d.unread = true
			d.problems = append(d.problems, problem{d.file, key.Line, at, "a second time", fmt.Sprintf("each key once; it stands in line %d", first), true})
		case !known:
			d.problems = append(d.problems, problem{d.file, key.Line, at, "unknown key", strings.Join(slices.Sorted(maps.Keys(fields)), ", "), true})
		default:
			d.match(value, t, at)
		}
	}
}

// wrong reports a value that is of no use.
func (d *document) wrong(n *yaml.Node, path, accepted string) {
	value := n.Value
	if n.Kind != yaml.ScalarNode {
		value = map[yaml.Kind]string{yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list"}[n.Kind]
	}
	d.problems = append(d.problems, problem{d.file, n.Line, path, value, accepted, true})
}

// fieldsOf are the keys of a part of the form, with their types.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	all := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, squash, _ := strings.Cut(f.Tag.Get("mapstructure"), ",")
		if len(f.Index) > 2 || squash != "" || name == "-" || name == "" {
			continue
		}
		all[name] = f.Type
	}
	return all
}
