package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/containers/ocicrypt/config"
	"github.com/containers/ocicrypt/helpers"
)

// layer is small, so that what takes time is the provider and the way to it.
var layer = []byte("one layer")

// report is what loop writes. Failures are in it; they don't end the loop.
type report struct {
	Exchanges int            `json:"exchanges"` // each wrap and each unwrap is one
	Failed    int            `json:"failed"`
	Errors    map[string]int `json:"errors"` // how often each text occurred
	Seconds   float64        `json:"seconds"`
	Times     *percentiles   `json:"ms,omitempty"` // of the exchanges that succeeded
}

type percentiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// loop wraps and unwraps N times. The library connects anew for each, as it does for every layer.
func loop(arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("loop", flag.ContinueOnError)
	parallel := flags.Int("parallel", 1, "how many at once")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() != 2 || *parallel < 1 {
		return errUsage
	}
	rounds, err := strconv.Atoi(flags.Arg(0))
	if err != nil {
		return err
	}
	key := []string{flags.Arg(1)}
	crypto, err := helpers.CreateCryptoConfig(key, key)
	if err != nil {
		return err
	}

	todo := make(chan struct{}, rounds)
	for range rounds {
		todo <- struct{}{}
	}
	close(todo)
	tally := tally{errors: map[string]int{}}
	var workers sync.WaitGroup
	start := time.Now()
	for range *parallel {
		workers.Go(func() {
			for range todo {
				tally.round(crypto)
			}
		})
	}
	workers.Wait()
	report := tally.report(time.Since(start))

	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(report); err != nil {
		return err
	}
	if report.Failed > 0 {
		return fmt.Errorf("%d of %d exchanges failed", report.Failed, report.Exchanges)
	}
	return nil
}

// tally is what the workers have seen.
type tally struct {
	mutex  sync.Mutex
	times  []time.Duration
	errors map[string]int
}

func (t *tally) round(crypto config.CryptoConfig) {
	start := time.Now()
	wrapped, err := encrypt(crypto.EncryptConfig, layer)
	t.add(time.Since(start), err)
	if err != nil {
		return
	}
	start = time.Now()
	plain, err := decrypt(crypto.DecryptConfig, wrapped)
	if err == nil && !bytes.Equal(plain, layer) {
		err = errors.New("the layer came back changed")
	}
	t.add(time.Since(start), err)
}

func (t *tally) add(took time.Duration, err error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if err == nil {
		t.times = append(t.times, took)
	} else {
		t.errors[err.Error()]++
	}
}

func (t *tally) report(took time.Duration) report {
	failed := 0
	for _, times := range t.errors {
		failed += times
	}
	return report{
		Exchanges: len(t.times) + failed,
		Failed:    failed,
		Errors:    t.errors,
		Seconds:   took.Seconds(),
		Times:     percentilesOf(t.times),
	}
}

func percentilesOf(times []time.Duration) *percentiles {
	if len(times) == 0 {
		return nil
	}
	slices.Sort(times)
	at := func(share float64) float64 {
		rank := max(1, int(math.Ceil(share*float64(len(times)))))
		return float64(times[rank-1]) / float64(time.Millisecond)
	}
	return &percentiles{P50: at(0.50), P95: at(0.95), P99: at(0.99), Max: at(1)}
}
