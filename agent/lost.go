package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/clustervision/luna/inventory"
)

// busy tells whether the disk has better things to do than to be scrubbed.
func (k *keeper) busy() bool {
	return k.store.Writing() || len(k.reports.progress()) >= manyDownloads
}

// damaged takes an artifact out of service, at once. What follows is findLost's.
func (k *keeper) damaged(sum string, cause error) {
	path, err := k.store.SetAside(sum)
	k.why.Store(sum, cause)
	version := ""
	for v := range k.machine.View().Versions() {
		for _, a := range artifacts(v) {
			if a.SHA256 != sum {
				continue
			}
			version = v.ID
			if d, err := descriptor(a); err == nil {
				k.swarm.Drop(d.InfoHash)
			}
		}
	}
	k.log.Error("an artifact is damaged, and is not served any more", "image", version, "file", path, "err", errors.Join(cause, err))
	select {
	case k.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// findLost looks for what this head should have of a version and has not, or not
// whole, and lets the others know: nodes then go to them first. A damaged file is
// kept where it is the last one there is.
func (k *keeper) findLost(ctx context.Context, v *inventory.ImageVersion, self inventory.ID) error {
	var lost []inventory.Artifact
	var what []string
	for _, a := range artifacts(v) {
		d, err := descriptor(a)
		if err != nil {
			return err
		}
		if st, err := os.Stat(k.store.Path(a.SHA256)); err == nil && st.Size() != a.Size && k.store.Has(a.SHA256) {
			k.damaged(a.SHA256, fmt.Errorf("it has %d bytes in place of %d", st.Size(), a.Size))
		}
		if k.store.Has(a.SHA256) {
			continue
		}
		if k.seeded[d.InfoHash] != "" {
			k.swarm.Drop(d.InfoHash) // it may have been removed by hand, of which the swarm knows nothing
			delete(k.seeded, d.InfoHash)
		}
		lost = append(lost, a)
		what = append(what, fmt.Sprintf("%s is lost (%v)", d.Name, k.cause(a.SHA256)))
	}
	if cur, ok := k.machine.View().Version(v.ID); len(lost) == 0 || !ok || !slices.Contains(cur.Holders, self) {
		return nil
	}
	k.warnOf(v, fmt.Errorf("%s: being fetched anew", strings.Join(what, ", ")))
	if err := k.record(ctx, v, false); err != nil {
		k.log.Warn("the other heads do not know yet that this one lost an image version", "image", v.ID, "err", err)
		return nil
	}
	if k.otherHolders(v, self) == 0 {
		return nil
	}
	for _, a := range lost {
		if err := k.store.RemoveAside(a.SHA256); err != nil {
			return err
		}
	}
	return nil
}

// cause gives what is known to be wrong with an artifact that is not there.
func (k *keeper) cause(sum string) error {
	if err, ok := k.why.Load(sum); ok {
		return err.(error)
	}
	return errors.New("its file is gone")
}

// otherHolders counts the heads but this one that hold a version, alive or not.
func (k *keeper) otherHolders(v *inventory.ImageVersion, self inventory.ID) (n int) {
	cur, ok := k.machine.View().Version(v.ID)
	if !ok {
		return 0
	}
	for _, id := range cur.Holders {
		if id != self {
			n++
		}
	}
	return n
}

// errNowhere says that no head holds a version.
var errNowhere = errors.New("no head holds it any more")

// explainLoss says what to do about an artifact that could not be fetched.
func (k *keeper) explainLoss(v *inventory.ImageVersion, self inventory.ID, sum string, err error) error {
	if !errors.Is(err, errNobodyHas) || k.otherHolders(v, self) > 0 {
		return err
	}
	name := "NAME"
	if o, ok := k.machine.View().OSImageByID(v.Image); ok {
		name = o.Name
	}
	err = fmt.Errorf("%w (%w): nodes cannot boot it: run `luna osimage pack %s` on the head that has the tree", errNowhere, k.cause(sum), name)
	if _, missing := os.Stat(k.store.AsidePath(sum)); missing == nil {
		err = fmt.Errorf("%w; the damaged file is kept as %s", err, k.store.AsidePath(sum))
	}
	return err
}

// forgetAside removes damaged files of versions that nobody needs.
func (k *keeper) forgetAside(needed map[string]bool) {
	all, err := k.store.Aside()
	for _, sum := range all {
		if !needed[sum] {
			err = errors.Join(err, k.store.RemoveAside(sum))
		}
	}
	if err != nil {
		k.log.Warn("cannot remove a damaged artifact that nobody needs", "err", err)
	}
}
