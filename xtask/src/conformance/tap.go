// Stands in for github.com/mndrix/tap-go, which Debian does not have: what the validation programs call of it.

package tap

import (
	json "encoding/json"
	fmt "fmt"
	strings "strings"
)

type T struct {
	n    int
	todo bool
	err  bool
}

func New() *T { return &T{} }

func (t *T) Header(count int) {
	fmt.Println("TAP version 13")
	if count > 0 {
		fmt.Printf("1..%d\n", count)
	}
}

func (t *T) line(ok bool, description string) {
	t.n++
	word := "ok"
	if !ok {
		word = "not ok"
	}
	if t.todo {
		description = "# TODO " + description
	} else {
		description = "- " + description
	}
	fmt.Printf("%s %d %s\n", word, t.n, description)
}

func (t *T) Ok(test bool, description string) { t.line(test, description) }
func (t *T) Fail(description string)          { t.line(false, description) }
func (t *T) Pass(description string)          { t.line(true, description) }
func (t *T) Skip(count int, description string) {
	for i := 0; i < count; i++ {
		t.n++
		fmt.Printf("ok %d # SKIP %s\n", t.n, description)
	}
}
func (t *T) Todo() *T  { return &T{n: t.n, todo: true} }
func (t *T) AutoPlan() { fmt.Printf("1..%d\n", t.n) }
func (t *T) Diagnostic(message string) {
	fmt.Println("# " + strings.Replace(message, "\n", "\n# ", -1))
}
func (t *T) Diagnosticf(f string, a ...interface{}) { t.Diagnostic(fmt.Sprintf(f, a...)) }
func (t *T) YAML(message interface{}) error {
	text, err := json.MarshalIndent(message, "  ", "  ")
	if err == nil {
		fmt.Printf("  ---\n  %s\n  ...\n", text)
	}
	return err
}
