package cli

import (
	"io"

	"github.com/clustervision/luna/api"
)

// printChanges shows what changes would do.
func printChanges(w io.Writer, changes []api.Change) error {
	return writeYAML(w, changes)
}
