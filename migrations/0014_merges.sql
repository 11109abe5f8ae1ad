-- What a merge costs (docs/store.md): merged column by column, each name is looked up anew in the dictionary of the new part. Small
-- parts, of which most merges are, are merged with all columns at once; large ones go on column by column, which needs less memory.

ALTER TABLE flows MODIFY SETTING vertical_merge_algorithm_min_rows_to_activate = 5000000
