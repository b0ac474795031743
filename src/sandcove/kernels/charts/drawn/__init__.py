"""Figures of matplotlib, and of what draws with it: seaborn, pandas, sympy.

Nothing is guessed from bare patches where the library keeps what they belong to. Each reader takes the artists that it
knows from a `Plot` and leaves the others to the next; `plots` has their order.

figure      a figure: which axes are charts of their own, which are colour bars, twins, insets
plots       axes: their readers, in order, and the layout
axis        an axis: dates, categories, scales; positions to what they stand for
legend      the names of colours
artists     what all readers ask of artists: order, colours, whether they lie in data coordinates
bars, histograms, boxes, violins, errors, lines, points, areas, wedges, grids, fields, spatial: the readers
seaborn     whether seaborn has drawn it
"""
