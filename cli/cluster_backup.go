package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/clustervision/luna/inventory"
)

// restoreTime bounds a restore, and a recovery: the head starts anew, and writes
// all it has.
const restoreTime = 2 * time.Minute

func clusterBackup(a *app) *cobra.Command {
	var passphrase string
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write everything but the images into one file",
		Long: `Write everything but the images into one file, as it is at one moment: the
inventory, its log, and the secrets of the mesh. Whoever has the file can act as a
head, so it is written with mode 0600 and can be encrypted: with the passphrase
that --passphrase-file has in its first line (- reads it from stdin). FILE - is
stdout. It is done on a head, as root. luna cluster restore reads it.`,
		Example: `  luna cluster backup /root/luna.backup
  luna cluster backup --passphrase-file /root/secret - | ssh elsewhere 'cat >luna.backup'`,
		Args: oneFile,
		RunE: a.do(func(ctx context.Context, s *session) error {
			if err := mustNotBeDry(s); err != nil {
				return err
			}
			secret, err := readPassphrase(s, passphrase)
			if err != nil {
				return err
			}
			backup, err := s.within(restoreTime).Backup(ctx)
			if err == nil && secret != "" {
				backup, err = encrypt(backup, secret)
			}
			if err != nil {
				return err
			}
			if s.name == "-" {
				_, err = s.stdout().Write(backup)
				return err
			}
			if st, err := os.Stat(s.name); err == nil && !st.Mode().IsRegular() {
				return refusef("cluster", "general", "%s is there and is no file: name a file, or - for stdout", s.name)
			}
			if err := replaceFile(s.name, string(backup), 0o600); err != nil {
				return fmt.Errorf("write the backup: %w", err)
			}
			s.note("%d bytes are in %s", len(backup), s.name)
			return nil
		}),
	}
	c.Flags().StringVar(&passphrase, "passphrase-file", "", "file whose first line is the passphrase, - for stdin")
	return c
}

func clusterRestore(a *app) *cobra.Command {
	var passphrase string
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Begin the cluster of a backup anew, on this fresh head",
		Long: `Begin the cluster of a backup anew, on this fresh head, which is then its only one:
others join it with luna head invite and luna join. The authority and the secrets
are those of the backup, so credentials go on to be good. Images are in no backup:
pack them anew, unless this head has them still. Heads of the cluster from before
must not run any more: those that do fall silent when they see this one.`,
		Example: "  luna cluster restore /root/luna.backup",
		Args:    oneFile,
		RunE: a.do(func(ctx context.Context, s *session) error {
			backup, err := readBackup(s, s.name, passphrase)
			if err != nil {
				return err
			}
			r, err := s.within(restoreTime).Restore(ctx, backup)
			if err != nil {
				return err
			}
			s.note("head '%s' is now the only one of cluster %s, as it was at %s: %d nodes", r.Head, r.UUID, r.Taken.Local().Format(time.DateTime), r.Nodes)
			if len(r.Missing) > 0 {
				s.note("nodes can boot %s once it is packed here: luna osimage pack", strings.Join(r.Missing, ", "))
			}
			s.keepCredential(r.UUID, r.Credential)
			return nil
		}),
	}
	c.Flags().StringVar(&passphrase, "passphrase-file", "", "file whose first line is the passphrase, - for stdin")
	return c
}

func clusterRecover(a *app) *cobra.Command {
	var sure bool
	c := &cobra.Command{
		Use:   "recover --others-are-lost",
		Short: "Go on with this head alone, when the others are lost for good",
		Long: `Go on with this head alone, when so many heads are lost for good that the rest can
decide nothing any more. It is the last resort:

  - This head keeps everything that it has. What the others had decided and this
    one had not heard of yet is lost: recover on the head that knows most, which
    has the highest Applied in luna head list.
  - The lost heads are removed from the cluster. See to it that they are off, and
    wipe their data before they are used again. Those that come back all the same
    fall silent when they see this one; but until they do, they answer nodes.

Afterwards this head is the only one, and others join as ever. It is done on the
head itself, as root.`,
		Example: "  luna cluster recover --others-are-lost",
		Args:    noArgs,
		RunE: a.do(func(ctx context.Context, s *session) error {
			if err := mustNotBeDry(s); err != nil {
				return err
			}
			self, err := s.Self(ctx)
			if err != nil {
				return err
			}
			if !sure {
				return refusef("head", self.Name, "recover lets head '%s' go on alone and removes all others: read luna cluster recover --help, and say --others-are-lost", self.Name)
			}
			if err := s.within(restoreTime).Recover(ctx); err != nil {
				return err
			}
			s.note("head '%s' goes on alone, with the %d changes that it had applied", self.Name, self.AppliedIndex)
			s.note("it leads; the other heads are removed: let new ones join (luna head invite)")
			return nil
		}),
	}
	c.Flags().BoolVar(&sure, "others-are-lost", false, "the other heads are off, and stay so until they are wiped")
	return c
}

func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("the following arguments are required: FILE")
	}
	return noArgs(cmd, args[1:])
}

// ageHeader begins every file of age, by which an encrypted backup is known.
const ageHeader = "age-encryption.org/"

// readBackup reads a backup, and decrypts it where it is encrypted.
func readBackup(s *session, file, passphraseFile string) ([]byte, error) {
	if err := mustNotBeDry(s); err != nil {
		return nil, err
	}
	if file == "-" && passphraseFile == "-" {
		return nil, usagef("the backup and its passphrase cannot both come from stdin")
	}
	var backup []byte
	var err error
	if file == "-" {
		backup, err = io.ReadAll(s.cmd.InOrStdin())
	} else {
		backup, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	if len(backup) == 0 {
		return nil, inventory.Errorf(inventory.KindInvalid, "cluster", "general", "there is nothing in the backup %s", file)
	}
	secret, err := readPassphrase(s, passphraseFile)
	encrypted := bytes.HasPrefix(backup, []byte(ageHeader))
	switch {
	case err != nil:
		return nil, err
	case !encrypted:
		return backup, nil
	case secret == "":
		return nil, refusef("cluster", "general", "the backup is encrypted: name the file of its passphrase with --passphrase-file")
	}
	identity, err := age.NewScryptIdentity(secret)
	if err != nil {
		return nil, err
	}
	plain, err := age.Decrypt(bytes.NewReader(backup), identity)
	var wrong *age.NoIdentityMatchError
	if errors.As(err, &wrong) {
		return nil, inventory.Errorf(inventory.KindDenied, "cluster", "general", "the passphrase is not that of the backup")
	}
	if err == nil {
		backup, err = io.ReadAll(plain)
	}
	if err != nil {
		return nil, inventory.Errorf(inventory.KindInvalid, "cluster", "general", "the backup is damaged or not whole: %v", err)
	}
	return backup, nil
}

func encrypt(backup []byte, secret string) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(secret)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipient)
	if err != nil {
		return nil, fmt.Errorf("encrypt the backup: %w", err)
	}
	_, err = w.Write(backup)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("encrypt the backup: %w", err)
	}
	return out.Bytes(), nil
}

// readPassphrase gives the first line of a file; "" where none is named.
func readPassphrase(s *session, file string) (string, error) {
	in := s.cmd.InOrStdin()
	switch file {
	case "":
		return "", nil
	case "-":
	default:
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read the passphrase: %w", err)
		}
		defer f.Close()
		in = f
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) { // which a last line without its end has
		return "", fmt.Errorf("read the passphrase: %w", err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", refusef("cluster", "general", "there is no passphrase in the first line of %s", file)
	}
	return line, nil
}
