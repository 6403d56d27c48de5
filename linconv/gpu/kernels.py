"""CUDA C++ that works on the tables of `_tables`: CSR arrays, and products; text only.

`REAL`, `PARTS` (2 for complex numbers), `INDEX` and the constants here are put before the
source.  Every kernel writes every number once, in a fixed order, and reads nothing that it
writes, but for what the threads of a block share.
"""

from __future__ import annotations

# Results that a thread of a product computes, and the most threads of a block of tiles.
EACH, MOST_THREADS = 4, 256

SOURCE = r"""
typedef long long place;
struct alignas(PARTS * sizeof(REAL)) value { REAL part[PARTS]; };

// The head of an axis in the table; "later" are the products of the axes after it.
enum { LENGTH, LATER_LENGTHS, LATER_ENTRIES, LATER_TEMPLATES, POSITIONS, STENCILS, COLUMNS,
       TAPS, HEAD };
enum { MOST_AXES = 16 };

__device__ inline place head(const place* table, int axis, int field)
{
    return table[HEAD * axis + field];
}

// The column that an entry of each axis' stencil stands for.
__device__ inline place column_of(const place* table, place axes, const place* entry)
{
    place column = 0;
    for (int a = 0; a < axes; a++) column += table[head(table, a, COLUMNS) + 3 * entry[a]];
    return column;
}

// Add up all combinations of the taps of a kernel that are mixed along each axis.
__device__ inline value mixed_taps(
    const place* table, const place* sizes, const value* taps, place axes, const place* entry,
    place kernel)
{
    place tap[MOST_AXES];
    for (int a = 0; a < axes; a++)
        tap[a] = table[head(table, a, COLUMNS) + 3 * entry[a] + 1];
    value total = {};
    for (;;) {
        place at = kernel;
        REAL weight = 1;
        for (int a = 0; a < axes; a++) {
            const place* mixed = table + head(table, a, TAPS) + 2 * tap[a];
            at = at * sizes[a] + mixed[0];
            weight *= (REAL) mixed[1];
        }
        for (int p = 0; p < PARTS; p++) total.part[p] += weight * taps[at].part[p];
        int a = (int) axes - 1;
        for (; a >= 0; a--) {
            const place* found = table + head(table, a, COLUMNS) + 3 * entry[a];
            if (++tap[a] < found[2]) break;
            tap[a] = found[1];
        }
        if (a < 0) return total;
    }
}

// Columns and values of all templates: one thread for each entry and channel of rows.
extern "C" __global__ void write_templates(
    const place* table, const place* sizes, const value* taps, INDEX* columns, value* values,
    place axes, place per_group, place plane, place channels, place templates)
{
    place thread = blockIdx.x * (place) blockDim.x + threadIdx.x;
    place size = per_group * templates;
    if (thread >= size * channels) return;
    place row_channel = thread / size, rest = thread % size, e = rest;

    // Which stencil of each axis, and which of its entries.
    place stencil[MOST_AXES], entry[MOST_AXES];
    place width = per_group;
    for (int a = 0; a < axes; a++) {
        place after = head(table, a, LATER_TEMPLATES);
        const place* stencils = table + head(table, a, STENCILS);
        place which = rest / (width * after), low = 0;
        place high = (head(table, a, COLUMNS) - head(table, a, STENCILS)) / 2 - 1;
        while (low < high) {  // the last stencil that begins at or before `which`
            place middle = (low + high + 1) / 2;
            if (stencils[2 * middle] <= which) low = middle; else high = middle - 1;
        }
        stencil[a] = low;
        rest -= stencils[2 * low] * width * after;
        width *= stencils[2 * low + 1];
    }
    for (int a = (int) axes - 1; a >= 0; a--) {
        const place* stencils = table + head(table, a, STENCILS);
        place count = stencils[2 * stencil[a] + 1];
        entry[a] = stencils[2 * stencil[a]] + rest % count;
        rest /= count;
    }

    // What is left of `rest` is the channel of the columns.
    if (row_channel == 0) columns[e] = (INDEX) (rest * plane + column_of(table, axes, entry));
    place kernel = row_channel * per_group + rest;
    values[thread] = mixed_taps(table, sizes, taps, axes, entry, kernel);
}

// What a line of rows, all positions of the last axis, has in common.
struct line {
    place channel, position, width, begin, start, shift;
};

// Find a line by Horner's rule over the outer axes; `start` lacks what precedes a channel.
__device__ inline line find_line(const place* table, int last, place which, place per_channel,
                                 place per_group)
{
    place length = head(table, last, LENGTH), rest = which % per_channel;
    line found = {which / per_channel, rest * length, per_group, 0, 0, 0};
    for (int a = 0; a < last; a++) {
        place lines = head(table, a, LATER_LENGTHS) / length;
        const place* at = table + head(table, a, POSITIONS) + 3 * (rest / lines);
        const place* stencil = table + head(table, a, STENCILS) + 2 * at[0];
        rest %= lines;
        found.start += found.width * at[2] * head(table, a, LATER_ENTRIES);
        found.begin += found.width * stencil[0] * head(table, a, LATER_TEMPLATES);
        found.shift += at[1];
        found.width *= stencil[1];
    }
    return found;
}

// `together` rows of a line per block.  Their entries lie one after the other, and so do the
// threads that write them: what a row begins with is in shared memory, where each looks.
extern "C" __global__ void write_rows(
    const place* table, const place* bases, const INDEX* columns, const value* values,
    INDEX* indptr, INDEX* indices, value* data,
    place axes, place per_group, place per_channel, place templates, place together,
    place first, place pitch, place rows_apart)
{
    extern __shared__ value shared_memory[];
    INDEX* starts = (INDEX*) shared_memory;  // of rows, and the end of the last
    INDEX *begins = starts + together + 1, *shifts = begins + together;
    int last = (int) axes - 1, step = (int) blockDim.x;
    place length = head(table, last, LENGTH), pieces = (length + together - 1) / together;
    place before = blockIdx.x % pieces * together;
    int rows = (int) (before + together < length ? together : length - before);
    line found = find_line(table, last, blockIdx.x / pieces, per_channel, per_group);
    found.start += first + found.channel * pitch;
    found.shift += bases[found.channel];
    indptr += found.channel * rows_apart + found.position + before;
    for (int row = (int) threadIdx.x; row < rows; row += step) {
        const place* at = table + head(table, last, POSITIONS) + 3 * (before + row);
        const place* stencil = table + head(table, last, STENCILS) + 2 * at[0];
        place start = found.start + found.width * at[2];
        indptr[row] = starts[row] = (INDEX) start;
        begins[row] = (INDEX) (found.begin + found.width * stencil[0]);
        shifts[row] = (INDEX) (found.shift + at[1]);
        if (row == rows - 1) starts[rows] = (INDEX) (start + found.width * stencil[1]);
    }
    __syncthreads();
    const value* source = values + found.channel * per_group * templates;
    // From a multiple of 32 on, so that what a warp writes begins where memory's lines do.
    INDEX base = starts[0] / 32 * 32;
    unsigned lead = (unsigned) (starts[0] - base), end = (unsigned) (starts[rows] - base);
    float rate = (float) rows / (float) (end - lead);  // of rows an entry, on average
    for (unsigned at = threadIdx.x; at < end; at += blockDim.x) {
        if (at < lead) continue;
        // The last row that begins at or before e: at the average or next to it, mostly.
        INDEX e = base + (INDEX) at;
        int guess = (int) ((float) (at - lead) * rate);
        int low = guess > 1 ? guess - 1 : 0, high = guess + 1 < rows ? guess + 1 : rows - 1;
        if (starts[low] > e) high = low - 1, low = 0;
        else if (starts[high + 1] <= e) low = high + 1, high = rows - 1;
        while (low < high) {
            int middle = (low + high + 1) / 2;
            if (starts[middle] <= e) low = middle; else high = middle - 1;
        }
        INDEX from = begins[low] + (e - starts[low]);
        indices[e] = columns[from] + shifts[low];
        data[e] = source[from];
    }
}

// Rows that have a kernel each: the same pattern, and nothing that rows have in common.
extern "C" __global__ void write_varying(
    const place* table, const place* sizes, const value* taps,
    INDEX* indptr, INDEX* indices, value* data, place axes, place lines, place lanes)
{
    int last = (int) axes - 1;
    place length = head(table, last, LENGTH), rows = blockDim.x / lanes;
    place pieces = (length + rows - 1) / rows;
    line found = find_line(table, last, blockIdx.x / pieces, lines, 1);
    place position = blockIdx.x % pieces * rows + threadIdx.x / lanes;
    if (position >= length) return;

    place row = found.position + position, rest = row, shift = 0;
    const place* stencil[MOST_AXES];
    for (int a = 0; a <= last; a++) {
        place later = head(table, a, LATER_LENGTHS);
        const place* at = table + head(table, a, POSITIONS) + 3 * (rest / later);
        stencil[a] = table + head(table, a, STENCILS) + 2 * at[0];
        rest %= later;
        shift += at[1];
    }
    const place* at = table + head(table, last, POSITIONS) + 3 * position;
    place start = found.start + found.width * at[2], width = found.width * stencil[last][1];
    place lane = threadIdx.x % lanes, entry[MOST_AXES];
    if (lane == 0) indptr[row] = (INDEX) start;
    for (place e = lane; e < width; e += lanes) {
        rest = e;
        for (int a = last; a >= 0; a--) {
            entry[a] = stencil[a][0] + rest % stencil[a][1];
            rest /= stencil[a][1];
        }
        indices[start + e] = (INDEX) (column_of(table, axes, entry) + shift);
        data[start + e] = mixed_taps(table, sizes, taps, axes, entry, row);
    }
}

// One product after the other: each is added by the instruction that multiplies.
__device__ inline void add_product(value& total, const value& a, const value& b)
{
    total.part[0] += a.part[0] * b.part[0];
#if PARTS == 2
    total.part[0] -= a.part[1] * b.part[1];
    total.part[1] += a.part[0] * b.part[1];
    total.part[1] += a.part[1] * b.part[0];
#endif
}

// Products without the matrix, y = C x for vectors one after the other.  A thread computes
// EACH positions of a line; where they have one stencil, it reads every tap once for all.
extern "C" __global__ void multiply(
    const place* table, const place* bases, const INDEX* columns, const value* values,
    const value* x, value* y,
    place axes, place per_group, place per_channel, place templates, place lines,
    place x_size, place y_size)
{
    int last = (int) axes - 1;
    place length = head(table, last, LENGTH), together = (place) blockDim.x * EACH;
    place pieces = (length + together - 1) / together, job = blockIdx.x / pieces;
    line found = find_line(table, last, job % lines, per_channel, per_group);
    const place* positions = table + head(table, last, POSITIONS);
    const place* stencils = table + head(table, last, STENCILS);
    place at = blockIdx.x % pieces * together + threadIdx.x;
    if (at >= length) return;

    const value* input = x + job / lines * x_size + bases[found.channel] + found.shift;
    place row = found.channel * per_channel * length + found.position;
    value* output = y + job / lines * y_size + row;
    place from[EACH], step = blockDim.x, stencil = positions[3 * at];
    int count = 0;  // positions from `at` on that have its stencil
    for (place p = at; count < EACH && p < length && positions[3 * p] == stencil; p += step)
        from[count++] = positions[3 * p + 1];
    for (int done = 0; done < EACH && at < length;) {
        place begin = found.begin + found.width * stencils[2 * stencil];
        place width = found.width * stencils[2 * stencil + 1];
        const INDEX* read = columns + begin;
        const value* source = values + found.channel * per_group * templates + begin;
        value total[EACH] = {};
        if (count == EACH) {
            for (place e = 0; e < width; e++)
                for (int k = 0; k < EACH; k++)
                    add_product(total[k], source[e], input[read[e] + from[k]]);
        } else {
            for (int k = 0; k < count; k++)
                for (place e = 0; e < width; e++)
                    add_product(total[k], source[e], input[read[e] + from[k]]);
        }
        for (int k = 0; k < count; k++) output[at + k * step] = total[k];
        at += count * step;
        done += count;
        if (at >= length) return;
        stencil = positions[3 * at];
        from[0] = positions[3 * at + 1];
        count = 1;
    }
}

// An axis of the tiles of `_tiles`.  Rows first..end-1 have one stencil: its first column is
// the row's number + shift, the others `apart` from each other.
struct tiled {
    int rows, first, end, shift, samples, taps, apart, threads, tile, patch, tiles;
};

__device__ inline bool within(const tiled& axis, int row)
{
    return axis.first <= row && row < axis.end;
}

// A sample that a patch has room for; where there is none, another one that no row reads.
__device__ inline int sample(const tiled& axis, int at)
{
    return at < 0 ? 0 : at < axis.samples ? at : axis.samples - 1;
}

// Copy the samples that a tile reads: neighbouring threads copy neighbouring ones.
__device__ inline void load_patch(tiled a, tiled b, tiled c,
                                  int first0, int first1, int first2,
                                  const value* input, value* patch)
{
    int at = (int) threadIdx.x, step = (int) blockDim.x, height = b.patch, width = c.patch;
    int at0 = at / width / height, at1 = at / width % height, at2 = at % width;
    int step0 = step / width / height, step1 = step / width % height, step2 = step % width;
    first0 += a.shift, first1 += b.shift, first2 += c.shift;
    #pragma unroll 4
    for (; at < a.patch * height * width; at += step) {
        place row = (place) sample(a, first0 + at0) * b.samples + sample(b, first1 + at1);
        patch[at] = input[row * c.samples + sample(c, first2 + at2)];
        at0 += step0, at1 += step1, at2 += step2;
        if (at2 >= width) at2 -= width, at1++;
        if (at1 >= height) at1 -= height, at0++;
    }
}

// Add the products with all taps to EACH results.  In the patch their samples are `step` from
// each other, as are those of neighbouring taps along the middle axis: from tap to tap it
// takes one more sample, and the others are kept.
__device__ inline void add_taps(tiled a, tiled b, tiled c,
                                const value* taps, const value* patch, value* total)
{
    int step = b.apart * c.patch, plane = a.apart * b.patch * c.patch;
    for (int i = 0; i < a.taps; i++)
        for (int k = 0; k < c.taps; k++) {
            const value* tap = taps + i * b.taps * c.taps + k;
            const value* read = patch + i * plane + k * c.apart;
            value kept[EACH];
            #pragma unroll
            for (int q = 1; q < EACH; q++, read += step) kept[q] = *read;
            #pragma unroll 4
            for (int j = 0; j < b.taps; j++, tap += c.taps, read += step) {
                #pragma unroll
                for (int q = 1; q < EACH; q++) kept[q - 1] = kept[q];
                kept[EACH - 1] = *read;
                #pragma unroll
                for (int q = 0; q < EACH; q++) add_product(total[q], *tap, kept[q]);
            }
        }
}

// One row's product, by the template that it has.
__device__ inline value row_product(
    const place* table, const INDEX* columns, const value* values, const value* input,
    int last, place lines, place per_group, place row)
{
    place length = head(table, last, LENGTH);
    line found = find_line(table, last, row / length, lines, per_group);
    const place* at = table + head(table, last, POSITIONS) + 3 * (row % length);
    const place* stencil = table + head(table, last, STENCILS) + 2 * at[0];
    place begin = found.begin + found.width * stencil[0], width = found.width * stencil[1];
    input += found.shift + at[1];
    value total = {};
    for (place e = begin; e < begin + width; e++)
        add_product(total, values[e], input[columns[e]]);
    return total;
}

// The same products where most rows have one stencil: a block computes a tile of rows from a
// patch in shared memory, the few rows that have another stencil by their templates.  The
// numbers of `axis` are read again where they are used: registers for all are too many.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, 4) multiply_tiles(
    const place* table, const place* bases, const INDEX* columns, const value* values,
    const tiled* axis, const value* x, value* y,
    place axes, place per_group, place lines, place templates, place channels, place begin,
    place x_size, place y_size)
{
    extern __shared__ value shared_memory[];
    const tiled &a = axis[0], &b = axis[1], &c = axis[2];
    unsigned rest = blockIdx.x;
    int first2 = rest % c.tiles * c.tile;
    rest /= c.tiles;
    int first1 = rest % b.tiles * b.tile;
    rest /= b.tiles;
    int first0 = rest % a.tiles * a.tile;
    rest /= a.tiles;
    place channel = rest % (unsigned) channels, vector = rest / (unsigned) channels;

    // Rows of this thread are `apart` from each other along the middle axis.
    int thread = (int) threadIdx.x, last = (int) axes - 1;
    int at2 = thread % c.threads, at1 = thread / c.threads % b.threads;
    int at0 = thread / c.threads / b.threads;
    at1 = at1 / b.apart * (EACH * b.apart) + at1 % b.apart;
    int row0 = first0 + at0, row1 = first1 + at1, row2 = first2 + at2;
    bool inside = within(a, row0) && within(c, row2), any = false;
    for (int q = 0; q < EACH; q++) any = any || within(b, row1 + q * b.apart);

    int taps = a.taps * b.taps * c.taps;
    value* patch = shared_memory + taps;
    const value* input = x + vector * x_size + bases[channel];
    const value* source = values + channel * per_group * templates;
    value total[EACH] = {};
    for (place g = 0; g < per_group; g++) {
        if (g) __syncthreads();  // all are done with the channel before
        for (int e = (int) threadIdx.x; e < taps; e += (int) blockDim.x)
            shared_memory[e] = source[begin + g * taps + e];
        const value* plane = input + g * a.samples * b.samples * c.samples;
        load_patch(a, b, c, first0, first1, first2, plane, patch);
        __syncthreads();
        const value* corner = patch + (at0 * b.patch + at1) * c.patch + at2;
        if (inside && any) add_taps(a, b, c, shared_memory, corner, total);
    }

    if (row0 >= a.rows || row2 >= c.rows) return;
    value* output = y + vector * y_size + channel * lines * head(table, last, LENGTH);
    place at = ((place) row0 * b.rows + row1) * c.rows + row2;
    place apart = (place) b.apart * c.rows;
    #pragma unroll
    for (int q = 0; q < EACH; q++)
        if (inside && within(b, row1 + q * b.apart)) output[at + q * apart] = total[q];
    #pragma unroll 1
    for (int q = 0; q < EACH && row1 + q * b.apart < b.rows; q++)
        if (!inside || !within(b, row1 + q * b.apart))
            output[at + q * apart] = row_product(
                table, columns, source, input, last, lines, per_group, at + q * apart);
}
"""
