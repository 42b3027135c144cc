package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
)

func clusterMakeDNS(a *app) *cobra.Command {
	var export string
	c := &cobra.Command{
		Use:   "makedns",
		Short: "Write the DNS zones as files for BIND",
		Long: `Write the DNS zones as files for BIND: one forward zone for each network, under
the network's name, the reverse zones, and the file that named.conf includes.
They go where the cluster's named_zone_dir and named_include_file say, on the
head that is asked; with --export into DIR on this machine. The names of the
files are printed.`,
		Example: `  luna cluster makedns
  luna cluster makedns --export /tmp/zones`,
		Args: noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			zones, err := s.Zones(ctx, !s.given("export") && !s.DryRun)
			if err != nil {
				return err
			}
			if s.given("export") {
				return saveExported(s, export, zones, 0o644)
			}
			notices(s, zones.Notices)
			for _, f := range zones.Files {
				fmt.Fprintln(s.stdout(), f.Path)
			}
			return nil
		}),
	}
	c.Flags().StringVar(&export, "export", "", "write the files into this directory on this machine instead")
	modern(c, "export")
	return c
}

// saveExported writes files that a head made into a directory of this machine,
// under their own names, and prints where they are.
func saveExported(s *session, dir string, e api.Exported, mode fs.FileMode) error {
	notices(s, e.Notices)
	if dir == "" {
		return usagef("argument --export: a directory is needed")
	}
	if !s.DryRun {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the directory to export to: %w", err)
		}
	}
	for _, f := range e.Files {
		path := filepath.Join(dir, filepath.Base(f.Path))
		if !s.DryRun {
			if err := replaceFile(path, f.Content, mode); err != nil {
				return fmt.Errorf("export %s: %w", path, err)
			}
		}
		fmt.Fprintln(s.stdout(), path)
	}
	return nil
}

// replaceFile writes a file whole or not at all: a server may read it at any
// time.
func replaceFile(path, content string, mode fs.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".luna-")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // fails once it has its name
	_, err = temp.WriteString(content)
	if err := errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
