//! Two products at a time with `vdpbf16ps`: queries and weights in bf16, sums in float32.

use super::super::span::{Spans, Table};
use super::{Band, Runs, Task, Unit, ask_for, by_rows, last};
use crate::kv::{Bf16Element, TILE};
use crate::level::Isa;
use crate::simd::{Bf16Dot, Bf16Kernel, LANES};

/// bf16 queries and weights, two by two.
pub(in super::super) struct Pairs;

impl<E: Bf16Element> Runs<E> for Pairs {
    fn room(dim: usize, rows: usize) -> usize {
        Spans::<E, Self, u16>::room(dim, rows)
    }
    fn run(isa: Isa, task: Task<'_, E>) {
        isa.run_bf16(OnLevel(task));
    }
}

struct OnLevel<'a, E>(Task<'a, E>);

impl<E: Bf16Element> Bf16Kernel for OnLevel<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(self, s: S) {
        self.0.go(s, |job, item, room| Spans::new(job, item, Pairs, room));
    }
}

impl<S: Bf16Dot, E: Bf16Element> Unit<S, E> for Pairs {
    type Number = u16;

    #[inline(always)]
    fn score(&mut self, s: S, band: &Band<'_, E, u16>, scores: &mut Table<f32>) {
        by_rows!(band.rows, |first, R| {
            let (mut tile, end) = (band.here.start, band.here.end);
            // Several tiles at a time hide the latency of the accumulation.
            while R <= 4 && tile + 4 <= end {
                score::<S, E, R, 4>(s, band, first, tile, scores);
                tile += 4;
            }
            while tile + 2 <= end {
                score::<S, E, R, 2>(s, band, first, tile, scores);
                tile += 2;
            }
            if tile < end {
                score::<S, E, R, 1>(s, band, first, tile, scores);
            }
        });
    }

    #[inline(always)]
    fn accumulate(
        &mut self,
        s: S,
        band: &Band<'_, E, u16>,
        weights: &Table<u16>,
        values: &mut [[f32; LANES]],
    ) {
        let vectors = band.dim.div_ceil(LANES);
        by_rows!(band.rows, |first, R| {
            let mut vector = 0;
            // Few rows leave registers for more of the head dimension.
            while R <= 2 && vector + 8 <= vectors {
                accumulate::<S, E, R, 8>(s, band, weights, [first, vector], values);
                vector += 8;
            }
            while R <= 4 && vector + 4 <= vectors {
                accumulate::<S, E, R, 4>(s, band, weights, [first, vector], values);
                vector += 4;
            }
            while vector + 2 <= vectors {
                accumulate::<S, E, R, 2>(s, band, weights, [first, vector], values);
                vector += 2;
            }
            if vector < vectors {
                accumulate::<S, E, R, 1>(s, band, weights, [first, vector], values);
            }
        });
    }
}

/// R rows × T tiles.
#[inline(always)]
fn score<S: Bf16Dot, E: Bf16Element, const R: usize, const T: usize>(
    s: S,
    band: &Band<'_, E, u16>,
    first: usize,
    tile: usize,
    scores: &mut Table<f32>,
) {
    let (pairs, stride) = (band.dim / 2, band.queries.len() / band.rows);
    let mut queries = [band.queries.as_chunks::<2>().0; R];
    for r in 0..R {
        queries[r] = &queries[r][last(first + r, band.rows) * stride / 2..][..pairs];
    }
    let mut keys = [band.tiles[tile].keys; T];
    for t in 0..T {
        keys[t] = &band.tiles[tile + t].keys[..pairs];
    }
    let mut acc = [[s.splat(0.0); T]; R];
    for i in 0..pairs {
        let mut k = [E::load_pairs(s, &keys[0][i]); T];
        for t in 0..T {
            ask_for(R, band.next[tile + t].keys, i);
            if t > 0 {
                k[t] = E::load_pairs(s, &keys[t][i]);
            }
        }
        for r in 0..R {
            for t in 0..T {
                acc[r][t] = s.dot_bf16(acc[r][t], k[t], queries[r][i]);
            }
        }
    }
    for r in 0..R {
        for t in 0..T {
            s.store(acc[r][t], &mut scores[first + r].as_chunks_mut().0[tile + t]);
        }
    }
}

/// R rows × C vectors of the head dimension.
#[inline(always)]
fn accumulate<S: Bf16Dot, E: Bf16Element, const R: usize, const C: usize>(
    s: S,
    band: &Band<'_, E, u16>,
    weights: &Table<u16>,
    [first, vector]: [usize; 2],
    values: &mut [[f32; LANES]],
) {
    let vectors = band.dim.div_ceil(LANES);
    let mut acc = [[s.splat(0.0); C]; R];
    for r in 0..R {
        for c in 0..C {
            acc[r][c] = s.load(&values[last(first + r, band.rows) * vectors + vector + c]);
        }
    }
    for t in band.here.clone() {
        for pair in 0..TILE / 2 {
            let row = &band.tiles[t].values[pair * vectors + vector..][..C];
            let mut v = [E::load_pairs(s, &row[0]); C];
            for c in 0..C {
                ask_for(R, band.next[t].values, pair * vectors + vector + c);
                if c > 0 {
                    v[c] = E::load_pairs(s, &row[c]);
                }
            }
            for r in 0..R {
                let weights = weights[first + r].as_chunks().0[t * TILE / 2 + pair];
                for c in 0..C {
                    acc[r][c] = s.dot_bf16(acc[r][c], v[c], weights);
                }
            }
        }
    }
    for r in 0..R.min(band.rows - first) {
        for c in 0..C {
            s.store(acc[r][c], &mut values[(first + r) * vectors + vector + c]);
        }
    }
}
