package app

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPartsEndOneAfterTheOther(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		fail int // the part that returns by itself, -1 for none
		err  error
		want []int
	}{
		{"when the context ends", -1, nil, []int{0, 1, 2, 3}},
		{"when the first fails", 0, broken, []int{0, 1, 2, 3}},
		{"when one fails, after it and those before it", 2, broken, []int{2, 3, 0, 1}},
		{"when the last returns", 3, nil, []int{3, 0, 1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var mu sync.Mutex
				var ended []int
				parts := make([]func(context.Context) error, 4)
				for i := range parts {
					parts[i] = func(ctx context.Context) (err error) {
						if i == c.fail {
							err = c.err
							time.Sleep(time.Second)
						} else {
							<-ctx.Done()
						}
						if i == 0 {
							time.Sleep(3 * time.Second) // nobody overtakes it
						}
						mu.Lock()
						defer mu.Unlock()
						ended = append(ended, i)
						return err
					}
				}
				if err := inTurn(ctx, parts...); !errors.Is(err, c.err) {
					t.Errorf("ended with %v, want %v", err, c.err)
				}
				if !slices.Equal(ended, c.want) {
					t.Errorf("ended in the order %v, want %v", ended, c.want)
				}
			})
		})
	}
}
