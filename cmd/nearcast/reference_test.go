package main

import (
	"encoding"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/CONFIG.md anew")

const reference = "../../docs/CONFIG.md"

// docs/CONFIG.md says what the comments of the configuration's types say.
func TestReference(t *testing.T) {
	want := makeReference(t)
	if *update {
		if err := os.WriteFile(reference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/CONFIG.md is not what the comments say: go test ./cmd/nearcast -run TestReference -update")
	}
}

const referenceHead = `# The configuration file

One YAML file serves directors and agents alike; [deploy/example/nearcast.yaml](../deploy/example/nearcast.yaml) is a
whole one. ` + "`nearcast check -c nearcast.yaml`" + ` reports all that is wrong with it, each with line, key, value and what is
accepted. Unknown keys are errors. Paths are relative to the file. Durations are written as 500ms, 1s or 2h.

A director takes up a changed file, and a change of any file that it names, by itself or on SIGHUP: all of it or nothing. The
addresses under ` + "`listen` and `mesh`, `mesh.key_file`, `state` and `user`" + ` take effect at the next start.

This page is made from the comments of the types that read the file.

`

// makeReference is the page.
func makeReference(t *testing.T) string {
	t.Helper()
	docs := comments(t, ".", "../../zones", "../../geo", "../../healthmesh", "../../dnsserver")
	var b strings.Builder
	b.WriteString(referenceHead)
	writeKeys(t, &b, docs, reflect.TypeFor[Config](), "", map[reflect.Type]string{})
	return b.String()
}

// writeKeys writes the keys of a type, in the order of its declaration; a part of the form is followed by its own, unless
// these were written before, at the path in written.
func writeKeys(t *testing.T, b *strings.Builder, docs map[string]string, typ reflect.Type, path string, written map[reflect.Type]string) {
	t.Helper()
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, squash, _ := strings.Cut(f.Tag.Get("mapstructure"), ",")
		if squash != "" {
			writeKeys(t, b, docs, f.Type, path, written)
			continue
		}
		if name == "-" {
			continue
		}
		doc := docs[typ.String()+"."+f.Name]
		if doc == "" {
			t.Errorf("%s.%s has no comment", typ, f.Name)
		}
		key := strings.TrimPrefix(path+"."+name, ".")
		inner, list := f.Type, ""
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Slice && inner.Elem().Kind() == reflect.Struct {
			inner, list = inner.Elem(), "[]"
		}
		if path == "" {
			fmt.Fprintf(b, "## %s\n\n", name)
		}
		first := written[inner]
		if first != "" {
			doc += " Its keys are those of `" + first + "`."
		}
		fmt.Fprintf(b, "**`%s`** %s. %s\n\n", key, typeName(inner, list), strings.Join(strings.Fields(doc), " "))
		if inner.Kind() == reflect.Struct && first == "" {
			written[inner] = key + list
			writeKeys(t, b, docs, inner, key+list, written)
		}
	}
}

func typeName(t reflect.Type, list string) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return "text or whole number"
	case list != "":
		return "list of mappings"
	case t.Kind() == reflect.Slice:
		return "list of " + typeName(t.Elem(), "")
	}
	return map[reflect.Kind]string{
		reflect.String: "text", reflect.Int: "whole number", reflect.Float64: "number", reflect.Bool: "true or false", reflect.Struct: "mapping",
	}[t.Kind()]
}

// comments are the comments of all fields of the folders' types: "zones.RegionConfig.Name".
func comments(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				if s, ok := spec.Type.(*ast.StructType); ok {
					for _, field := range s.Fields.List {
						for _, name := range field.Names {
							all[f.Name.Name+"."+spec.Name.Name+"."+name.Name] = field.Doc.Text()
						}
					}
				}
				return false
			})
		}
	}
	return all
}
